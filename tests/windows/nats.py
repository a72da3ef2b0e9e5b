"""A NATS server of Linux for the tests of the bridge: a Windows program under Wine shares the loopback interface."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

VARIABLE = "NPIPES_TEST_NATS"


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """Starts one, and gives the variable that names it to the tests; nothing where there is no nats-server."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if program is None or VARIABLE in os.environ:
        yield {}
        return
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield {VARIABLE: f"nats://127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait()
