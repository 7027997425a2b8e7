"""How robust is a classifier really? The worst case, sample by sample, over a plan of attacks."""

from art_snn.evaluation.flag import Flag
from art_snn.evaluation.plan import PLANS, Member, Plan
from art_snn.evaluation.result import WorstCase
from art_snn.evaluation.worst_case import evaluate

__all__ = ["PLANS", "Flag", "Member", "Plan", "WorstCase", "evaluate"]
