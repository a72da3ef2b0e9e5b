"""`npipes demo`: a server here, a standard-library client in another process, and what happens."""

import os
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import npipes
from npipes.demo_client import ANNOUNCE, LARGE, NEWS, TEXTS, checksum

CLIENT = Path(__file__).with_name("demo_client.py")
TIMEOUT = 60.0  # seconds for all of the conversation
RATE_SECONDS = 1.0

# What the client does, as the server must see it.
EXPECTED = {
    "connected": 3,
    "text": len(TEXTS) + 3,
    "large": 1,
    "broadcast": 1,
    "sent": len(TEXTS) + 3 + 1 + 3,
    "disconnected": 3,
}


class Failed(Exception):
    """The demo did not go as it must; the text says how."""


class Conversation:
    """A server that prints its events and counts what it saw."""

    def __init__(self, name: str) -> None:
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self._server = npipes.Server(
            name,
            on_ready=self._ready,
            on_connected=self._connected,
            on_message=self._message,
            on_sent=self._sent,
            on_disconnected=self._disconnected,
            on_error=self._error,
        )

    def hold(self) -> None:
        """Serves one client process until it has ended and all its connections are gone."""
        deadline = time.monotonic() + TIMEOUT
        with self._server as server, client("talk", server.address) as process:
            # Waits for the end of the process, which is no event of the server's.
            watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
            watcher.start()
            while process.poll() is None or server.connections:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Failed(f"not done after {TIMEOUT:g} seconds")
                server.run(timeout=left)
            watcher.join()
        if process.returncode:
            raise Failed(f"the client process ended with exit code {process.returncode}")
        if self.faults:
            raise Failed(self.faults[0])
        if self.seen != EXPECTED:
            raise Failed(f"the server saw {dict(self.seen)} instead of {EXPECTED}")

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._server.quit()

    # ---- events ----------------------------------------------------------

    def _ready(self) -> None:
        say(f"ready on {self._server.address}")

    def _connected(self, conn: npipes.ServerConnection) -> None:
        self.seen["connected"] += 1
        conn.custom_data = f"connection {self.seen['connected']}"
        say(f"{conn.custom_data}: connected, {describe_peer(conn)}")

    def _message(self, conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        if data == ANNOUNCE:
            count = self._server.broadcast(NEWS, cookie="the broadcast")
            self.seen["broadcast"] += 1
            say(f"{conn.custom_data}: message {data.decode()!a}: broadcast to {count} connections")
            return
        if len(data) < LARGE:
            self.seen["text"] += 1
            say(f"{conn.custom_data}: message {data.decode()!a}")
        else:
            self.seen["large"] += 1
            found = checksum(data)
            if len(data) != LARGE or not found:
                self.faults.append("the large message did not come as it was sent")
            say(f"{conn.custom_data}: message of {len(data):,} bytes, checksum {found or 'WRONG'}")
        conn.write(data, cookie=f"the answer of {len(data):,} bytes")

    def _sent(self, conn: npipes.ServerConnection, cookie: str) -> None:
        self.seen["sent"] += 1
        say(f"{conn.custom_data}: {cookie} is handed over")

    def _disconnected(self, conn: npipes.ServerConnection) -> None:
        self.seen["disconnected"] += 1
        say(f"{conn.custom_data}: disconnected, {conn.error or 'orderly'}")
        if self.seen["disconnected"] == self.seen["connected"]:
            self._server.quit()  # hold() looks whether that was all

    def _error(self, conn: npipes.ServerConnection | None, error: npipes.PipeError) -> None:
        who = conn.custom_data if conn else "server"
        self.faults.append(f"{who}: {error}")
        say(f"{who}: {error}")


def say(text: str) -> None:
    # The line and its end in one piece: two processes print.
    print(f"server  {text}\n", end="", flush=True)


def describe_peer(conn: npipes.ServerConnection) -> str:
    """Who the other end is, as far as the system tells."""
    try:
        peer = conn.peer
    except npipes.PipeClosedError:
        return "already gone"
    process = f"process {peer.pid}" if peer.pid else "an unknown process"
    return f"{process}, user {peer.user}" if peer.user else process


@contextmanager
def client(command: str, address: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The client process, which does not outlive the block."""
    # -P: the modules of this package are not to be taken for the standard library's.
    arguments = [sys.executable, "-P", str(CLIENT), command, address, *more]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def measure(name: str) -> None:
    """Has the client measure round trips with a server whose events run on its worker."""

    def echo(conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        conn.write(data)

    server = npipes.Server(name, free_threading_events=True, on_message=echo)
    with server, client("rate", server.address, str(RATE_SECONDS)) as process:
        try:
            code = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failed(f"no echo rate after {TIMEOUT:g} seconds") from None
    if code:
        raise Failed(f"the client process that measures ended with exit code {code}")


def run(with_rate: bool = True) -> int:
    """The whole demo; 0 if everything was as it must be, else 1."""
    system = f"Python {platform.python_version()}, {platform.system()}"
    print(f"npipes {npipes.__version__} on {system}", flush=True)
    name = f"npipes-demo-{os.getpid()}-{time.monotonic_ns()}"
    try:
        Conversation(name).hold()
        if with_rate:
            measure(name)
    except (Failed, OSError, ValueError) as error:
        print(f"npipes demo: failed: {error}", file=sys.stderr, flush=True)
        return 1
    print("All of it went as it must.", flush=True)
    return 0
