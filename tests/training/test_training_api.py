"""What the package promises to those who import it."""

from __future__ import annotations

import inspect
import pickle

import pytest

import distbp
from distbp import errors

ERRORS = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


def test_public_names_are_pinned():
    assert sorted(distbp.__all__) == [
        "Config",
        "DistbpError",
        "ExampleView",
        "Explanation",
        "Placement",
        "Recipe",
        "Result",
        "TrainedRun",
        "Verdict",
        "explain_run",
        "load_config",
        "load_run",
        "train",
        "verify",
    ]


def test_every_public_name_is_there():
    assert all(hasattr(distbp, name) for name in distbp.__all__)


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_pickles(error):
    copy = pickle.loads(pickle.dumps(error("rate=5 is too high")))
    assert (type(copy), str(copy), copy.exit_code) == (error, "rate=5 is too high", error.exit_code)


def test_exit_codes_are_pinned():
    assert {error.__name__: error.exit_code for error in ERRORS} == {
        "DistbpError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "StorageError": 4,
        "CheckpointError": 4,
        "RunTakenError": 4,
        "WorkersLostError": 5,
        "DivergedError": 6,
        "ClusterError": 7,
        "NumericsError": 8,
        "DigestsDifferError": 9,
        "InterruptedRunError": 130,
        "TerminatedRunError": 143,
    }
