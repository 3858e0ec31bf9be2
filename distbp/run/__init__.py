"""A run on disk: its directory, lock, logs and checkpoints, on any fsspec storage. Knows nothing of training."""

from distbp.run.checkpoint import Checkpoint
from distbp.run.directory import RunDirectory
from distbp.run.lock import RunLock
from distbp.run.logs import EventLog, StepLog
from distbp.run.names import next_name
from distbp.run.records import StepRecord
from distbp.run.store import CheckpointStore
from distbp.run.writer import CheckpointWriter

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "CheckpointWriter",
    "EventLog",
    "RunDirectory",
    "RunLock",
    "StepLog",
    "StepRecord",
    "next_name",
]
