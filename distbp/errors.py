"""The exceptions distbp raises, and the exit code that each one means.

    DistbpError                  1  the run failed
    ├── ConfigError              2  the configuration or the command is wrong
    ├── DataError                3  the data cannot be used
    ├── StorageError             4  storage cannot be read or written
    │   └── CheckpointError      4  a run or checkpoint is missing, damaged, or of another recipe
    │       └── RunTakenError    4  another process has the run or its name
    ├── WorkersLostError         5  workers died more often than the failure budget allows
    ├── DivergedError            6  the loss or the parameters are not finite any more
    ├── ClusterError             7  the Ray cluster cannot be reached or cannot hold the run
    ├── NumericsError            8  a process computes other bits than the run was started with
    ├── DigestsDifferError       9  two runs that should be equal are not
    └── InterruptedRunError    130  stopped by Ctrl-C, after a checkpoint
        └── TerminatedRunError 143  stopped by SIGTERM or SIGHUP, after a checkpoint

A message states the fact with its values, what was expected, and what to do, in one sentence.
Every class is built from its message alone, so every one pickles. Nothing else lives here.
"""

from distbp.text.masking import mask_secrets


class DistbpError(Exception):
    """Base of everything distbp raises on purpose; `exit_code` is what the command line returns.

    As text it shows no passwords: those of URLs in its message are masked.
    """

    exit_code = 1

    def __str__(self) -> str:
        return mask_secrets(super().__str__())


class ConfigError(DistbpError):
    """A configuration value, an unknown key, or a command-line argument is wrong."""

    exit_code = 2


class DataError(DistbpError):
    """The data are missing, damaged, or do not fit the recipe."""

    exit_code = 3


class StorageError(DistbpError):
    """Storage cannot be read or written."""

    exit_code = 4


class CheckpointError(StorageError):
    """A run directory or checkpoint is missing, damaged, or belongs to another recipe."""


class RunTakenError(CheckpointError):
    """Another process has the run, or was faster to take its name."""


class WorkersLostError(DistbpError):
    """Workers or the parameter server died more often than `max_failures` allows."""

    exit_code = 5


class DivergedError(DistbpError):
    """The loss or the parameters stopped being finite."""

    exit_code = 6


class ClusterError(DistbpError):
    """The Ray cluster is unreachable or has too few resources."""

    exit_code = 7


class NumericsError(DistbpError):
    """Floating-point results of a process differ from those the run was started with."""

    exit_code = 8


class DigestsDifferError(DistbpError):
    """Two runs were expected to end with the same bytes and did not."""

    exit_code = 9


class InterruptedRunError(DistbpError):
    """The run was stopped by SIGINT, after a checkpoint."""

    exit_code = 130


class TerminatedRunError(InterruptedRunError):
    """The run was stopped by SIGTERM or SIGHUP, after a checkpoint."""

    exit_code = 143
