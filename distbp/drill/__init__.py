"""Drills: a run that is disturbed on purpose, and the proof that it ends with the bytes of one that was not."""

from distbp.drill.conduct import DrillReport, Outcome, drill
from distbp.drill.faults import Fault, parse_fault

__all__ = ["DrillReport", "Fault", "Outcome", "drill", "parse_fault"]
