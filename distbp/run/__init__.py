"""A run on disk: its directory, lock, logs and checkpoints, on any fsspec storage. Knows nothing of training."""

from distbp.run.checkpoints.checkpoint import Checkpoint
from distbp.run.checkpoints.store import CheckpointStore
from distbp.run.checkpoints.writer import CheckpointWriter
from distbp.run.directory import RunDirectory
from distbp.run.lock import RunLock
from distbp.run.logs import EventLog, StepLog
from distbp.run.names import next_name
from distbp.run.records import StepRecord

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
