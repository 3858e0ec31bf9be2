"""Checkpoints of a run: as a value, on storage, whole or not at all."""
