"""Fixtures of several tests of files."""

from __future__ import annotations

import http.server
import threading
from functools import partial

import pytest


@pytest.fixture
def serve(tmp_path):
    """Return the address at which a handler serves the folder of the test."""
    running = []

    def start(handler: type) -> str:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(handler, directory=str(tmp_path))
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()
