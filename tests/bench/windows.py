"""Round trips on Windows beside raw C, multiprocessing and asyncio's Proactor.

All servers are up during the whole run; the rounds go through them in turn, so
that what the machine does meanwhile falls on all.  The client is the standard
library's.  Under Wine the figures measure Wine's server: only their ratios in
one run say something.

    python tests/bench/windows.py RAWIOCP.EXE [--rounds N] [--seconds S]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Client
from pathlib import Path

HERE = Path(__file__).resolve().parent
AIO = ["async-for", "callback"]  # npipes.aio, on the Proactor loop as well
PEERS = ["multiprocessing", "proactor", "proactor-streams"]
KINDS = ["raw", "free", "run", *AIO, *PEERS]
SIZES = [64, 4096]


def address(kind: str) -> str:
    return rf"\\.\pipe\npipes-bench-{os.getpid()}-{kind}"


def start(kind: str, raw: str) -> subprocess.Popen[bytes]:
    if kind == "raw":
        command = [raw, address(kind)]
    else:
        script = "echo_aio.py" if kind in AIO else "echo_windows.py"
        command = [sys.executable, str(HERE / script), address(kind), kind]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline().strip() != b"ready":
        raise SystemExit(f"the {kind} server did not start")
    return process


def round_trips(kind: str, size: int, seconds: float) -> float:
    message = bytes(size)
    with Client(address(kind), "AF_PIPE") as client:
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            client.send_bytes(message)
            if client.recv_bytes() != message:
                raise SystemExit(f"the {kind} server's echo differs")
            count += 1
    return count / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", help="tests/bench/rawiocp.c, compiled")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one sample")
    parser.add_argument("--kinds", nargs="+", default=KINDS[1:], choices=KINDS[1:])
    arguments = parser.parse_args()
    kinds = ["raw", *arguments.kinds]
    servers = []
    rates: dict[tuple[str, int], list[float]] = {}
    try:
        for kind in kinds:
            servers.append(start(kind, arguments.raw))
        for _ in range(arguments.rounds):
            for size in SIZES:
                for kind in kinds:
                    rate = round_trips(kind, size, arguments.seconds)
                    rates.setdefault((kind, size), []).append(rate)
    finally:
        for server in servers:
            server.kill()
    print(f"{'round trips/s':18}" + "".join(f"{size:>10} B   of raw" for size in SIZES))
    for kind in kinds:
        cells = ""
        for size in SIZES:
            pairs = zip(rates[kind, size], rates["raw", size], strict=True)
            ratio = statistics.median(ours / raw for ours, raw in pairs)
            cells += f"{statistics.median(rates[kind, size]):12.0f}{ratio:9.2f}"
        print(f"{kind:18}{cells}")


main()
