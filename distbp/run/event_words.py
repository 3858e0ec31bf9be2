"""What happened to a run, in words: one event of events.jsonl as a line for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TROUBLE = ("lost", "ended", "refused", "leaving")
"""Kinds of events that a reader should not overlook."""
_FREQUENT = ("evaluated", "checkpoint", "joined")


def describe_event(event: Mapping[str, Any]) -> str | None:
    """Return an event as a few words, None for what happens all the time; fields may be missing or of any kind."""
    kind = event.get("kind")
    if kind in _FREQUENT:
        return None
    if kind == "started":
        return "started" if not event.get("step") else "resumed"
    if kind == "formed":
        workers = event.get("workers")
        return f"group of {workers} worker{'' if workers == 1 else 's'}"
    if kind == "left":
        return f"left in time: {event.get('text', 'a worker')}"
    if kind == "recovering":
        again = f", {event['redone']} steps again" if event.get("redone") else ""
        return f"going on from the {event.get('state', 'newest')}'s state{again}"
    if kind == "recovered":
        seconds = event.get("seconds")
        return f"recovered in {seconds:.2f} s" if isinstance(seconds, float | int) else "recovered"
    return str(event.get("text") or event.get("reason") or event.get("error") or kind)
