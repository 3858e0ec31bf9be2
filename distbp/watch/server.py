"""The same view as a live page, served to this machine only: one page, one script, and the states as JSON."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from distbp.errors import ConfigError
from distbp.pages.page import render_page
from distbp.text.json_text import encode_document
from distbp.watch.observing import Watch

LOOPBACK = "127.0.0.1"
HERE = Path(__file__).parent


@contextmanager
def serve(watch: Watch, port: int) -> Iterator[str]:
    """Serve the page on loopback while inside, and yield its URL. port: 0 takes a free one.

    Raises ConfigError if the port is taken.
    """
    page = render_page("watch/page.html.j2", {"title": "Watching"}).encode()
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, watch, page, _make_policy(page.decode())))
    except OSError as error:
        raise ConfigError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}; choose another --html PORT") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.2], name="watch-page", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server_version = "distbp"
    sys_version = ""
    timeout = 30  # of a client that sends nothing

    def __init__(self, watch: Watch, page: bytes, policy: str, *args: Any):
        self._watch = watch
        self._page = page
        self._policy = policy
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer a request."""
        if not self._is_for_us():
            self._answer(403, "text/plain", b"this page is for the machine it runs on\n")
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", self._page)
        elif self.path == "/page.js":
            self._answer(200, "text/javascript; charset=utf-8", (HERE / "page.js").read_bytes())
        elif self.path == "/state.json":
            self._answer(200, "application/json", self._encode_states())
        elif self.path == "/favicon.ico":
            self._answer(204, "image/x-icon", b"")
        else:
            self._answer(404, "text/plain", b"there is only one page here: /\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _is_for_us(self) -> bool:
        """Whether it was asked for by our own name: other sites may let theirs point to this machine."""
        name = (self.headers.get("Host") or "").partition(":")[0]
        return name in (LOOPBACK, "localhost")

    def _encode_states(self) -> bytes:
        return encode_document({"time": time.time(), "runs": [state.to_json() for state in self._watch.states]})

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self._policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(content)


def _make_policy(page: str) -> str:
    """Return what the page may do: use our script, the styles it came with, and ask us."""
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src 'self'; connect-src 'self'; style-src {allowed}; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
