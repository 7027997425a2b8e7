"""How robust is a spiking network, and under which gradient? What to run, running it, metrics, report."""

from art_snn.audit.protocol import AuditResult, run_audit
from art_snn.audit.run import run
from art_snn.audit.settings import AuditSettings

__all__ = ["AuditResult", "AuditSettings", "run", "run_audit"]
