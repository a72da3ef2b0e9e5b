"""Echo throughput of npipes.aio on Linux beside raw C, asyncio and uvloop.

Measured as linux.py does it: all servers up, every sample between two of raw C,
medians of the rounds, one core unless --unpinned.  Below each row are its goals;
those that were missed are marked and counted.

    python tests/bench/aio.py [--rounds N] [--seconds S] [--unpinned] [--kinds ...]

"async-for" is a handler of serve() with `await conn.send(message)`, "callback" a
plain on_message with `conn.send_nowait(data)`; both run on asyncio's own loop, and
on uvloop as async-for-uvloop and callback-uvloop.  Peers: asyncio and uvloop (a
Protocol), asyncio-streams and uvloop-streams.  1,000 connections: aio_many.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from linux import SCRIPTS, measure, parse

LOADS = ["1 1 64", "1 64 64", "16 16 64", "200 4 64", "1 4 1048576"]
OURS = SCRIPTS["echo_aio.py"]
KINDS = ["async-for", "callback", "asyncio", "uvloop", "asyncio-streams", "uvloop-streams"]
# From 3.12 on the result of an await goes through StopIteration.
ITERATION = (
    [0.50, 0.42, 0.65, 0.68, 1.25]
    if sys.version_info >= (3, 12)
    else [
        0.50,
        0.50,
        0.75,
        0.68,
        1.25,
    ]
)
GOALS = {  # (kind, what it is divided by): a figure for each of LOADS
    ("async-for", "raw"): ITERATION,
    ("async-for", "asyncio-streams"): [1.4, 15, 14, 5.5, 1.8],
    ("callback", "asyncio"): [1.6, 2.5, 3, 2.5, 4],
}

Medians = dict[tuple[str, str], float]


class Table:
    def __init__(self, medians: Medians, loads: list[str], with_goals: bool) -> None:
        self._medians = medians
        self._loads = loads
        self._with_goals = with_goals
        self.goals = 0
        self.missed = 0

    def _value(self, kind: str, base: str, load: str) -> float:
        value = self._medians[kind, load]
        return value if base == "raw" else value / self._medians[base, load]

    def row(self, kind: str, base: str) -> None:
        form = "{:.2f}" if base == "raw" else "{:.1f}x"
        values = {load: self._value(kind, base, load) for load in self._loads}
        name = kind if base == "raw" else f"{kind} / {base}"
        self._line(name, {load: form.format(value) for load, value in values.items()})
        goals = GOALS.get((kind, base)) if self._with_goals else None
        if not goals:
            return
        cells = {}
        for load, goal in zip(LOADS, goals, strict=True):
            if load in values:
                missed = values[load] < goal
                self.goals += 1
                self.missed += missed
                cells[load] = ("missed: " if missed else "") + form.format(goal)
        self._line("    goal", cells)

    def _line(self, name: str, cells: dict[str, str]) -> None:
        print(f"{name:34}" + "".join(f"{cells.get(load, ''):>15}" for load in self._loads))


def show(medians: Medians, kinds: list[str], loads: list[str], with_goals: bool) -> None:
    table = Table(medians, loads, with_goals)
    print(f"{'of raw C':34}" + "".join(f"{load:>15}" for load in loads))
    for kind in kinds:
        table.row(kind, "raw")
    for kind in (kind for kind in kinds if kind in OURS):
        for base in (kind for kind in kinds if kind not in OURS):
            table.row(kind, base)
    if table.goals:
        print(f"{table.missed} of {table.goals} goals missed")


def main() -> None:
    arguments = parse(__doc__.splitlines()[0], KINDS, LOADS)
    with tempfile.TemporaryDirectory(prefix="np-bench-") as folder:
        medians = measure(arguments, Path(folder))
    show(medians, arguments.kinds, arguments.loads, not arguments.unpinned)


main()
