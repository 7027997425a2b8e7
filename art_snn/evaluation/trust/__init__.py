"""Can the figure be trusted? What must be so where an attack says how robust a network is; flags where it is not."""

from art_snn.evaluation.trust.examine import examine, few, of_worst_case

__all__ = ["examine", "few", "of_worst_case"]
