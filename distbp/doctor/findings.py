"""A finding of the doctor: one fact, how bad it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distbp.text.masking import mask_secrets

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One fact about `topic`. advice: what to do; None where all is well. exit_code: 0 unless it blocks a run."""

    topic: str
    level: Level
    fact: str
    advice: str | None = None
    exit_code: int = 0


def ok(topic: str, fact: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(topic, "ok", mask_secrets(fact))


def warn(topic: str, fact: str, advice: str) -> Finding:
    """Return a finding that costs something but blocks nothing."""
    return Finding(topic, "warning", mask_secrets(fact), mask_secrets(advice))


def block(topic: str, fact: str, advice: str, exit_code: int) -> Finding:
    """Return a finding that stops a run from working; exit_code: the one with which that run would end."""
    return Finding(topic, "problem", mask_secrets(fact), mask_secrets(advice), exit_code)
