"""The experiments of Hao et al. (ICLR 2024) by name, on the data that are there, beside the paper's figures."""

from art_snn.suites.cases import SUITES, Case, Suite
from art_snn.suites.run import SuiteResult, run_suite
from art_snn.suites.settings import SuiteSettings

__all__ = ["SUITES", "Case", "Suite", "SuiteResult", "SuiteSettings", "run_suite"]
