"""A short version of tests/fuzz/run.py."""

from __future__ import annotations

import pickle
import time
from contextlib import suppress

import fuzzing
import pytest
from fuzzing import Watch, fuzz
from hypothesis import given
from hypothesis import strategies as st
from targets import Target

from distbp.config import Config, parse_config
from distbp.errors import CheckpointError, ConfigError
from distbp.run.checkpoints.manifest import DamagedCheckpointError, decode_manifest
from distbp.run.records import keep_steps, parse_events, parse_steps

pytestmark = pytest.mark.slow

NUM_CASES = 250
KEYS = ("data", "model", "optimizer", "hidden", "epochs", "workers", "options", "function", "storage", "seed")

TEXT = st.text("abc:/.-0 \n\x00ü\ud800", max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def test_spoilt_files_are_refused_or_harmless(watch):
    outcome = fuzz(NUM_CASES, seed=1, watch=watch)
    assert sum(outcome.num_cases.values()) == NUM_CASES
    assert len(outcome.num_cases) == 6
    assert [f"{f.target} {f.number}: {f.text}" for f in outcome.findings] == []


def test_the_watch_notices_what_it_is_for(watch, monkeypatch):
    """A reader that unpickles, one that hangs and one that loads anything are found."""

    culprits = {
        "unpickles": lambda *_: pickle.loads(b"cos\nsystem\n(S'true'\ntR."),
        "hangs": lambda *_: time.sleep(5),
        "breaks": lambda *_: 1 / 0,
    }
    monkeypatch.setattr(fuzzing, "CASE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(fuzzing, "make_targets", lambda _: [Target(name, 1, act) for name, act in culprits.items()])
    found = {finding.target: finding.text for finding in fuzz(20, seed=0, watch=watch).findings}
    assert found.keys() == culprits.keys()
    assert "CodeRunError: pickle.find_class" in found["unpickles"]
    assert "HangError" in found["hangs"]
    assert "ZeroDivisionError" in found["breaks"]


@given(st.dictionaries(st.sampled_from(["recipe", "placement", "x"]), JSON))
def test_any_values_are_a_configuration_or_a_configuration_error(values):
    with suppress(ConfigError):
        assert isinstance(parse_config(values), Config)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_log_or_a_checkpoint_error(content):
    for parse in (parse_steps, parse_events):
        with suppress(CheckpointError):
            assert isinstance(parse(content, "log"), list)
    assert content.startswith(keep_steps(content, 10**18)) or b"step" in content


@given(st.binary(max_size=200))
def test_any_bytes_but_a_manifest_are_damaged(content):
    with pytest.raises(DamagedCheckpointError):
        decode_manifest(content)
