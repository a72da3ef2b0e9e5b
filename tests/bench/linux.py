"""Echo throughput on Linux beside raw C, uvloop, asyncio and multiprocessing.

All servers are up during the whole run, and every sample stands between two
samples of raw C, so that what the machine does meanwhile falls on both.  The
figures are ratios: medians over the rounds.  Everything runs on one core
unless --unpinned is given.

    python tests/bench/linux.py [--rounds N] [--seconds S] [--unpinned] [--kinds ...]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOADS = ["1 1 64", "1 64 64", "16 16 64", "200 4 64", "1 4 1048576", "1 1 67108864"]
OURS = ["free", "run", "free-list", "run-list"]
PEERS = ["uvloop", "asyncio", "multiprocessing"]
SCRIPTS = {
    "echo_npipes.py": OURS,
    "echo_aio.py": ["async-for", "callback", "async-for-uvloop", "callback-uvloop"],
    "echo_peers.py": [*PEERS, "asyncio-streams", "uvloop-streams"],
}


def build(name: str, folder: Path) -> str:
    program = folder / name
    source = HERE / f"{name}.c"
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-o", str(program), str(source)]
    subprocess.run(command, check=True)
    return str(program)


class Servers:
    """One process a kind; ends them all."""

    def __init__(self, folder: Path, pin: list[str]) -> None:
        self.folder = folder
        self.pin = pin
        self.processes: list[subprocess.Popen[bytes]] = []

    def address(self, kind: str) -> str:
        return str(self.folder / f"{kind}.sock")

    def start_kind(self, kind: str) -> subprocess.Popen[bytes]:
        script = next(script for script, kinds in SCRIPTS.items() if kind in kinds)
        address = self.address(kind)
        return self.start(kind, [sys.executable, str(HERE / script), address, kind])

    def start(self, kind: str, command: list[str]) -> subprocess.Popen[bytes]:
        null = subprocess.DEVNULL
        process = subprocess.Popen(self.pin + command, stdout=null, stderr=null)
        self.processes.append(process)
        deadline = time.monotonic() + 10
        while not Path(self.address(kind)).exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {kind} server did not start")
            time.sleep(0.02)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[tuple[str, str], float]:
    pin = [] if arguments.unpinned else ["taskset", "-c", "0"]
    load_program = build("load", folder)
    raw = build("rawecho", folder)
    servers = Servers(folder, pin)

    def sample(kind: str, load: str) -> float:
        command = [*pin, load_program, servers.address(kind), *load.split()]
        size = int(load.split()[2])
        seconds = max(arguments.seconds, size / 2**26)  # enough of the largest messages
        out = subprocess.run([*command, str(seconds)], check=True, capture_output=True, timeout=60)
        return float(out.stdout.split()[0])

    ratios: dict[tuple[str, str], list[float]] = {}
    try:
        servers.start("raw", [raw, servers.address("raw")])
        for kind in arguments.kinds:
            servers.start_kind(kind)
        for _ in range(arguments.rounds):
            for load in arguments.loads:
                before = sample("raw", load)
                for kind in arguments.kinds:
                    ours = sample(kind, load)
                    after = sample("raw", load)
                    ratios.setdefault((kind, load), []).append(2 * ours / (before + after))
                    before = after
    finally:
        servers.close()
    return {key: statistics.median(values) for key, values in ratios.items()}


def show(medians: dict[tuple[str, str], float], kinds: list[str], loads: list[str]) -> None:
    print(f"{'of raw C':28}" + "".join(f"{load:>14}" for load in loads))
    for kind in kinds:
        print(f"{kind:28}" + "".join(f"{medians[kind, load]:14.2f}" for load in loads))
    for base in (kind for kind in kinds if kind in PEERS):
        for kind in (kind for kind in kinds if kind in OURS):
            cells = "".join(f"{medians[kind, load] / medians[base, load]:13.1f}x" for load in loads)
            print(f"{kind + ' / ' + base:28}{cells}")


def parse(description: str, kinds: list[str], loads: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one sample")
    parser.add_argument("--unpinned", action="store_true")
    known = [kind for of_script in SCRIPTS.values() for kind in of_script]
    parser.add_argument("--kinds", nargs="+", default=kinds, choices=known)
    parser.add_argument("--loads", nargs="+", default=loads, metavar="'CONNECTIONS WINDOW SIZE'")
    return parser.parse_args()


def main() -> None:
    arguments = parse(__doc__.splitlines()[0], OURS + PEERS, LOADS)
    with tempfile.TemporaryDirectory(prefix="np-bench-") as folder:
        medians = measure(arguments, Path(folder))
    show(medians, arguments.kinds, arguments.loads)


if __name__ == "__main__":
    main()
