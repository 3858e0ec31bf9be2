"""Passwords and keys in addresses are used, and never shown or kept where others look."""

from __future__ import annotations

import pickle

import pytest
from faulty_storage import FaultyFileSystem

from distbp.cli.app import run as run_command
from distbp.errors import TerminatedRunError
from distbp.text.masking import mask_secrets

pytestmark = pytest.mark.slow

STORAGE = "faulty://ann:hunter2@host/bucket?token=s3cr3t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at 'http://ann:pw@host:80/x'", "at 'http://***@host:80/x'"),
        ("s3://b/x?X-Amz-Signature=ab%2F12&part=1", "s3://b/x?X-Amz-Signature=***&part=1"),
        ("sftp://ann:a@b:c@host/runs and s3://b", "sftp://***@host/runs and s3://b"),
        ("redis://:pw@host", "redis://***@host"),
        ("http://h/?api_key=1&sig=2;access_token=3#top", "http://h/?api_key=***&sig=***;access_token=***#top"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("mail ann@host, 10:30", "mail ann@host, 10:30"),
        ("ssh://ann@host/runs?step=3", "ssh://ann@host/runs?step=3"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text, shown):
    assert mask_secrets(text) == shown


def test_errors_show_no_secrets_and_travel_whole():
    error = TerminatedRunError(f"cannot write '{STORAGE}'")
    assert "hunter2" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_command_shows_the_secrets_of_its_storage(faults, capsys, caplog):
    caplog.set_level("INFO", "distbp")
    options = ["--set", "epochs=1", "--set", "global_batch_size=700", "--storage", STORAGE, "--name", "a"]
    assert run_command(["train", *options]) == 0
    assert run_command(["train", *options]) == 0
    assert run_command(["list", STORAGE]) == 0
    assert run_command(["list", "faulty://ann:hunter2@host/nothing?token=s3cr3t"]) == 0
    assert run_command(["evaluate", "faulty://ann:hunter2@host/no?token=s3cr3t"]) == 4
    assert run_command(["train", *options, "--resume", "never"]) == 4
    faults.refuse(ConnectionError(f"no answer from {STORAGE}"))
    assert run_command(["train", *options]) == 4
    faults.end()
    shown = capsys.readouterr()
    texts = shown.out + shown.err + caplog.text
    assert "***@host" in texts
    kept = b"".join(bytes(file.getvalue()) for path, file in FaultyFileSystem.store.items() if "config" not in path)
    for secret in ("hunter2", "s3cr3t"):
        assert secret not in texts
        assert secret.encode() not in kept
