from __future__ import annotations

import errno
import os
import pickle

import pytest

from distbp.config import Config
from distbp.errors import ConfigError, StorageError
from distbp.run import RunDirectory
from distbp.run.storage.folder import join_url, parent_url
from distbp.run.storage.opening import open_folder
from distbp.run.storage.translation import translate_storage_errors


class NoCredentialsError(Exception):
    """As botocore raises it."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "x"), "no space is left; free some"),
        (OSError(errno.EROFS, "x"), "the filesystem is read-only; choose a storage"),
        (PermissionError("Forbidden"), "permission denied; check"),
        (NoCredentialsError("Unable to locate"), "s3:// found no valid credentials; set them up"),
        (RuntimeError("Error while serializing: I/O error: x (os error 28)"), "no space is left; free some"),
        (ConnectionError("timed out\nat 1"), "timed out; check the storage and the connection"),
        (RuntimeError(), "RuntimeError; check the storage"),
    ],
)
def test_foreign_errors_become_one_sentence(error, sentence):
    with pytest.raises(StorageError) as caught, translate_storage_errors("write", "s3://b/x"):
        raise error
    assert str(caught.value).startswith(f"cannot write 's3://b/x': {sentence}")
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_own_errors_pass():
    with pytest.raises(ConfigError, match=r"^x$"), translate_storage_errors("write", "u"):
        raise ConfigError("x")


def test_unknown_protocol_is_told():
    with pytest.raises(StorageError, match="nope:// is no known kind of storage; use a path"):
        RunDirectory.create("nope://x", "a", Config(), {})


def test_missing_package_is_told_with_the_extra_to_install(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(StorageError, match=r"s3:// needs a package .* pip install 'distbp\[s3\]'"):
        RunDirectory.list_names("s3://bucket/runs")


@pytest.mark.parametrize(("url", "child"), [("runs", "runs/a"), ("/", "/a"), ("memory://", "memory://a")])
def test_urls_join_and_split(url, child):
    assert join_url(url, "a") == child
    assert parent_url(child).rstrip("/") == url.rstrip("/")


def test_failed_append_leaves_no_part_of_a_line(tmp_path, monkeypatch):
    folder = open_folder(str(tmp_path))
    folder.append("log", b"one\n")

    write = os.write

    def write_half(descriptor: int, content: bytes) -> int:
        if content == b"two\n":
            return write(descriptor, content[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_half)
        with pytest.raises(StorageError, match="no space is left"):
            folder.append("log", b"two\n")
    assert folder.read("log") == b"one\n"
