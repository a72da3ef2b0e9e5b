"""Many connections under asyncio, both ends: round trips, and memory for each.

    python tests/bench/aio_many.py [--clients N] [--rounds N] [--seconds S] [--unpinned]

One process has a server, another all its clients: npipes.aio on both sides, or
streams on both.  Every client sends 64 bytes, waits for the echo, and begins
again.  Memory is what a process has with all clients connected beyond what it
had with one; it grows in steps of up to 1 MiB, which are no more than 1 KiB a
connection with 1,000.  The first column of figures is a median, the ratios are medians of
rounds.  On one core unless --unpinned is given.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from linux import HERE, Servers
from many import resident

# What the clients are, and their server.
KINDS = {
    "npipes": "async-for",
    "asyncio-streams": "asyncio-streams",
    "npipes-uvloop": "async-for-uvloop",
    "uvloop-streams": "uvloop-streams",
}


class Clients:
    """The process that has them."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe)
        self.pid = self._process.pid

    def next_step(self) -> str:
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the clients have failed")
        return answer

    def close(self) -> None:
        self._process.communicate()


def measure(kind: str, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Round trips a second, and bytes a connection of the server and of the clients."""
    pin = [] if arguments.unpinned else ["taskset", "-c", "0"]
    with tempfile.TemporaryDirectory(prefix="np-bench-") as folder:
        servers = Servers(Path(folder), pin)
        try:
            server = servers.start_kind(KINDS[kind])
            amounts = [str(arguments.clients), str(arguments.seconds)]
            script = [sys.executable, str(HERE / "clients_aio.py")]
            clients = Clients([*pin, *script, servers.address(KINDS[kind]), kind, *amounts])
            clients.next_step()
            before = [resident(process) for process in (server.pid, clients.pid)]
            clients.next_step()
            after = [resident(process) for process in (server.pid, clients.pid)]
            rate = float(clients.next_step())
            clients.close()
        finally:
            servers.close()
    more = max(arguments.clients - 1, 1)
    return rate, (after[0] - before[0]) / more, (after[1] - before[1]) / more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of round trips")
    parser.add_argument("--unpinned", action="store_true")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for kind in arguments.kinds:
            figures[kind].append(measure(kind, arguments))
    first = arguments.kinds[0]
    print(f"{arguments.clients} clients; ratios are of {first}")
    print(f"{'':18}{'round trips/s':>20}{'bytes, server':>20}{'bytes, client':>20}")
    for kind in arguments.kinds:
        cells = ""
        for column in range(3):
            values = [row[column] for row in figures[kind]]
            pairs = zip(values, (row[column] for row in figures[first]), strict=True)
            ratio = statistics.median(value / base for value, base in pairs)
            cells += f"{statistics.median(values):13.0f}{ratio:6.2f}x"
        print(f"{kind:18}{cells}")


main()
