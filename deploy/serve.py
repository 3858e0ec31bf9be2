"""Predictions of a run over HTTP, on Ray Serve. Needs distbp[serve] on every node, and storage that they share.

On a cluster, from this folder (`serve` is Ray's own command; RAY_ADDRESS names the cluster):

    serve run --working-dir . serve:build run=s3://bucket/runs/one replicas=2

On this machine, with a private Ray on loopback, until Ctrl-C:

    python deploy/serve.py runs/one --port 8000

Then:

    curl -i -d '{"examples": [[0, 0, 5, 13, ...]]}' http://127.0.0.1:8000/predict
    curl http://127.0.0.1:8000/health

An example is what one row of the training data held, before any scaling. Every answer carries the digest of the
parameters in the header X-Distbp-Digest. What to change here: nothing, but for authentication, which is not here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application
from ray.util.metrics import Counter
from starlette.requests import Request
from starlette.responses import Response

from distbp import load_run
from distbp.backends.ray.cluster import RayCluster
from distbp.errors import ConfigError, DataError, DistbpError
from distbp.text.json_text import encode_document

MAX_BYTES = 64 << 20


class RequestError(Exception):
    """What a client did wrong. status: of HTTP."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@serve.deployment(name="distbp", health_check_period_s=10)
class Predictor:
    """One replica: a run's network in memory."""

    def __init__(self, run: str):
        """Raises CheckpointError if there is no such run, or it has no checkpoint yet."""
        self._network = load_run(run)
        self._about = {"run": run, "digest": self._network.digest, "step": self._network.step}
        self._headers = {"X-Distbp-Digest": self._network.digest, "X-Distbp-Step": str(self._network.step)}
        self._thread = ThreadPoolExecutor(
            1
        )  # so that health is answered meanwhile; one, as BLAS is pinned while it works
        self._num_examples = Counter("distbp_predictions", "Examples predicted.", ("run",))
        self._num_requests = Counter("distbp_prediction_requests", "Requests for predictions.", ("run", "status"))

    async def check_health(self) -> None:
        """Predict one example of zeros: Serve replaces a replica that raises."""
        await self._in_thread(self._network.predict, np.zeros((1, self._network.schema.num_inputs)))

    async def __call__(self, request: Request) -> Response:
        """Answer POST /predict and GET /health."""
        try:
            answer, status = await self._answer(request), 200
        except RequestError as error:
            answer, status = {"error": str(error)}, error.status
        self._num_requests.inc(1, {"run": self._about["run"], "status": str(status)})
        return Response(encode_document(answer), status, self._headers, "application/json")

    async def _answer(self, request: Request) -> Mapping[str, Any]:
        route = request.method, request.url.path.rpartition("/")[2]
        if route == ("GET", "health"):
            return self._about
        if route != ("POST", "predict"):
            raise RequestError(404, "there are POST /predict and GET /health")
        examples = read_examples(await read_body(request))
        return await self._in_thread(self._predict, examples)

    async def _in_thread(self, function: Callable[[NDArray], Any], examples: NDArray) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, examples)

    def _predict(self, examples: NDArray) -> Mapping[str, Any]:
        try:
            found = self._network.predict(examples)
        except DataError as error:
            raise RequestError(400, str(error)) from None
        self._num_examples.inc(len(examples), {"run": self._about["run"]})
        if found.labels is None:
            return {"values": found.outputs}
        return {"labels": found.labels, "probabilities": found.outputs, "classes": self._network.schema.classes}


async def read_body(request: Request) -> bytes:
    """Return what a client sent. Raises RequestError for more than MAX_BYTES, without reading it all."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BYTES:
            raise RequestError(413, f"the request has more than {MAX_BYTES:,} bytes; send fewer examples at a time")
    return bytes(content)


def read_examples(body: bytes) -> NDArray:
    """Return the examples in a request, (n, ...). Raises RequestError for everything that is not finite numbers."""
    try:
        examples = np.array(json.loads(body)["examples"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RequestError(
            400, 'expected JSON such as {"examples": [[0, 1.5], [2, 3]]}, rows of equal length'
        ) from None
    if examples.ndim < 2 or examples.size == 0 or examples.dtype.kind not in "iuf":
        raise RequestError(400, "examples must be at least one row of numbers, such as [[0, 1.5], [2, 3]]")
    if not np.isfinite(examples).all():
        row = int(np.argwhere(~np.isfinite(examples))[0][0])
        raise RequestError(400, f"example {row} (counted from 0) has a value that is not finite; leave it out")
    return examples


def build(args: dict[str, str]) -> Application:
    """Return what `serve run serve:build run=RUN replicas=N` deploys."""
    run, replicas = args.get("run"), args.get("replicas", "1")
    if run is None or not replicas.isdecimal() or not set(args) <= {"run", "replicas"}:
        raise ConfigError(f"expected run=RUN and perhaps replicas=N; got {args}")
    if "://" not in run:
        run = str(Path(run).resolve())
    return Predictor.options(num_replicas=int(replicas)).bind(run)


def main() -> int:
    """Serve on this machine until SIGINT or SIGTERM, and return the exit code."""
    parser = argparse.ArgumentParser(description="Predictions of a run over HTTP, on this machine only")
    parser.add_argument("run")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    os.environ.pop("RAY_ADDRESS", None)  # what is shut down in the end must be ours
    try:
        load_run(options.run)  # what is wrong with it is better said here than by a replica
        socket.create_server(("127.0.0.1", options.port)).close()
        cluster = RayCluster(None, num_cpus=2)
    except (DistbpError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return getattr(error, "exit_code", 1)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": options.port})
        serve.run(build({"run": options.run}))
        end = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):  # now, as Ray has put its own in place
            signal.signal(number, lambda *_: end.set())
        print(f"http://127.0.0.1:{options.port}/predict", flush=True)
        end.wait()
    finally:
        serve.shutdown()
        cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
