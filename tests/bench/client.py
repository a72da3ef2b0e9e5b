"""A blocking npipes.Client against an npipes Server, beside multiprocessing's Client against its own Listener.

Both echo servers are up during the whole run, and the two clients take turns, so that what the machine does meanwhile
falls on both.  The figures are medians over the rounds, the ratio is the median of the rounds' ratios; everything runs
on one core unless --unpinned is given.

    python tests/bench/client.py [--rounds N] [--unpinned] [--loads ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection
from pathlib import Path

import npipes

HERE = Path(__file__).resolve().parent
WINDOW = 64


def round_trips(client: Connection | npipes.Client, size: int, count: int) -> float:
    data = bytes(size)
    begin = time.perf_counter()
    for _ in range(count):
        client.send_bytes(data)
        assert len(client.recv_bytes()) == size
    return count / (time.perf_counter() - begin)


def large(client: Connection | npipes.Client, size: int, count: int) -> float:
    """A thread sends, because an echo of more than the system buffers needs somebody to receive it."""
    data = bytes(size)

    def send() -> None:
        for _ in range(count):
            client.send_bytes(data)

    sender = threading.Thread(target=send)
    begin = time.perf_counter()
    sender.start()
    for _ in range(count):
        assert len(client.recv_bytes()) == size
    sender.join()
    return count / (time.perf_counter() - begin)


def pipeline(client: Connection, count: int) -> float:
    data = bytes(64)
    begin = time.perf_counter()
    for _ in range(count // WINDOW):
        for _ in range(WINDOW):
            client.send_bytes(data)
        for _ in range(WINDOW):
            client.recv_bytes()
    return count / (time.perf_counter() - begin)


def pipeline_many(client: npipes.Client, count: int) -> float:
    messages = [bytes(64)] * WINDOW
    begin = time.perf_counter()
    for _ in range(count // WINDOW):
        client.send_many(messages)
        left = WINDOW
        while left:
            left -= len(client.recv_many(left))
    return count / (time.perf_counter() - begin)


LOADS: dict[str, tuple[Callable[..., float], Callable[..., float]]] = {
    "64 B round trips": (lambda c: round_trips(c, 64, 2000), lambda c: round_trips(c, 64, 2000)),
    "64 B, 64 deep": (lambda c: pipeline(c, 3200), lambda c: pipeline_many(c, 32000)),
    "1 MiB": (lambda c: large(c, 1 << 20, 50), lambda c: large(c, 1 << 20, 50)),
    "64 MiB": (lambda c: large(c, 64 << 20, 1), lambda c: large(c, 64 << 20, 1)),
}
SCRIPTS = {"multiprocessing": "echo_peers.py", "free": "echo_npipes.py"}


def start(kind: str, address: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(HERE / SCRIPTS[kind]), address, kind])
    deadline = time.monotonic() + 10
    while not Path(address).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the {kind} server did not start")
        time.sleep(0.02)
    return process


def measure(folder: str, rounds: int, loads: list[str]) -> dict[str, tuple[float, ...]]:
    addresses = {kind: f"{folder}/{kind}.sock" for kind in SCRIPTS}
    servers = [start(kind, address) for kind, address in addresses.items()]
    figures: dict[str, list[tuple[float, float]]] = {load: [] for load in loads}
    try:
        with (
            Client(addresses["multiprocessing"], "AF_UNIX") as theirs,
            npipes.connect(addresses["free"]) as ours,
        ):
            for number in range(rounds + 1):
                for load in loads:
                    measure_theirs, measure_ours = LOADS[load]
                    pair = measure_theirs(theirs), measure_ours(ours)
                    if number:  # the first one warms up
                        figures[load].append(pair)
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    return {
        load: tuple(statistics.median(figure) for figure in zip(*((a, b, b / a) for a, b in pairs), strict=True))
        for load, pairs in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--unpinned", action="store_true")
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    arguments = parser.parse_args()
    if not arguments.unpinned:
        os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory(prefix="np-bench-") as folder:
        medians = measure(folder, arguments.rounds, arguments.loads)
    print(f"{'messages a second':20}{'multiprocessing':>18}{'npipes':>14}{'ratio':>10}")
    for load, (theirs, ours, ratio) in medians.items():
        print(f"{load:20}{theirs:18.1f}{ours:14.1f}{ratio:9.1f}x")


main()
