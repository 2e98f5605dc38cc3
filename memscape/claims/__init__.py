"""Every claim of the paper as an executable check."""

from memscape.claims.audit import Audit, Verdict, audit, table
from memscape.claims.evidence import ExperimentResult, Trial
from memscape.claims.ledger import LEDGER, Claim

__all__ = ["LEDGER", "Audit", "Claim", "ExperimentResult", "Trial", "Verdict", "audit", "table"]
