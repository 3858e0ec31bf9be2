from __future__ import annotations

import secrets
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from s3_server import KEYS, Proxy, S3Server, start_server


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    if find_spec("s3fs") is None or find_spec("moto") is None:
        pytest.skip("needs s3fs and moto[server]")
    with start_server() as server:
        yield server


@pytest.fixture
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What stands between this process and the server."""
    import s3fs

    proxy = Proxy(server.address)
    for key, value in {**KEYS, "AWS_ENDPOINT_URL": proxy.url}.items():
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()  # one that exists would go on with another test's proxy
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    server.resume()
    proxy.close()


@pytest.fixture
def s3_storage(proxy: Proxy) -> str:  # noqa: ARG001 - the way to it
    """A URL in a new bucket."""
    import s3fs

    bucket = f"bucket-{secrets.token_hex(4)}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/runs"
