"""`distbp doctor`: what this machine or cluster will do to a run, before it does.

`node` and `storage_trial` find facts, `machine_checks` and `cluster_checks` judge them without touching anything,
`diagnose` puts them together.
"""

from distbp.doctor.diagnose import Diagnosis, diagnose
from distbp.doctor.findings import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
