"""The attacks by name, for training and audit: ART's own, unchanged."""

from art_snn.attacks.table import ATTACKS, AttackEntry

__all__ = ["ATTACKS", "AttackEntry"]
