"""Starts a command again with other kernels, because NumPy chooses them while it is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distbp.config import Config, load_config


def load_config_for_run(config_file: str | None, overrides: Sequence[str]) -> Config:
    """Return the configuration, in a process with the kernels that it asks for.

    Raises ConfigError like load_config, and where this machine has no portable kernels.
    """
    config = load_config(config_file, overrides)
    use_kernels_of(config)
    return config


def use_kernels_of(config: Config) -> None:
    """Go on in a process with the kernels that a configuration, also that of a stored run, asks for.

    Raises ConfigError where this machine has no portable kernels.
    """
    if config.placement.portable:
        _use_portable_kernels()


def _use_portable_kernels() -> None:
    from distbp.nn.kernels import expect_portable, is_portable, portable_variables

    if is_portable():
        return
    environment = {**os.environ, **portable_variables()}
    if _is_program() and environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    expect_portable()


def _is_program() -> bool:
    """Return whether this process runs only distbp's command line, so that it may be started again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return Path(sys.argv[0]).stem == "distbp" or (spec is not None and spec.name == "distbp.__main__")
