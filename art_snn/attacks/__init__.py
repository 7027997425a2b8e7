"""Attacks: ART's own by name, for training and audit, and those that are ours, made and called as ART's are."""

from art_snn.attacks.brief import BriefPGD
from art_snn.attacks.polished import PolishedPGD
from art_snn.attacks.sapgd import SAPGD
from art_snn.attacks.square import Square
from art_snn.attacks.table import ATTACKS, AttackEntry, attack

__all__ = ["ATTACKS", "SAPGD", "AttackEntry", "BriefPGD", "PolishedPGD", "Square", "attack"]
