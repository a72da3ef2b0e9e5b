#!/usr/bin/env python3
"""Checks the engine's models with SPIN, each by an exhaustive search: run.py [quick|long] [FILTER ...]

quick is part of .ci/run.  Every mutation of a model that it knows must fail.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_DEPTH = 20_000
_MEGABYTES = 4000

_WRITES = "USER_WRITES HOST_WRITES"


@dataclass(frozen=True)
class _Set:
    """What happens in a model, and whether the search is for states (errors, ends that are none) or for cycles."""

    name: str
    model: str
    switches: str
    cycles: bool = False
    long: bool = False


_SETS = (
    _Set("the user closes", "close", f"USER_CLOSES {_WRITES} PEER_READS STOP_LAST POOL"),
    _Set("the user closes, the linger time is over", "close", f"USER_CLOSES {_WRITES} PEER_SENDS STOP_LAST LINGER"),
    _Set("the peer leaves", "close", f"{_WRITES} PEER_SENDS PEER_LEAVES STOP_LAST"),
    _Set("a stop, the user closes", "close", f"USER_CLOSES {_WRITES}"),
    _Set("a stop, the peer leaves", "close", f"{_WRITES} PEER_LEAVES POOL"),
    _Set("a stop, other connections", "close", "USER_CLOSES PEER_LEAVES OTHERS"),
    _Set("a stop, sleeping and waking step by step", "close", "WAKES USER_CLOSES"),
    _Set("every run ends: the user closes, lingering", "close", f"USER_CLOSES {_WRITES} STOP_LAST LINGER", cycles=True),
    _Set("every run ends: the peer leaves", "close", f"{_WRITES} PEER_LEAVES STOP_LAST", cycles=True),
    _Set("every run ends: a stop", "close", "USER_CLOSES PEER_LEAVES", cycles=True),
    _Set("every run ends: a stop, step by step", "close", "WAKES", cycles=True, long=True),
    _Set("Windows: the user closes", "close", f"HOLDS USER_CLOSES {_WRITES} PEER_SENDS STOP_LAST LINGER"),
    _Set("Windows: a stop, the user closes", "close", f"HOLDS USER_CLOSES {_WRITES}"),
    _Set("Windows: a stop, the peer leaves", "close", f"HOLDS {_WRITES} PEER_LEAVES"),
    _Set("marshalled: a guest, a quit, a stop", "lease", ""),
    _Set("every run ends: marshalled", "lease", "CALLS=1", cycles=True, long=True),
    _Set("all of it", "close", f"USER_CLOSES {_WRITES} PEER_SENDS PEER_LEAVES LINGER POOL", long=True),
    _Set("Windows: all of it", "close", f"HOLDS USER_CLOSES {_WRITES} PEER_SENDS PEER_LEAVES LINGER POOL", long=True),
    _Set("every run ends: a stop, the user writes", "close", "USER_CLOSES USER_WRITES PEER_LEAVES", cycles=True, long=True),
    _Set("marshalled: more events", "lease", "EVENTS=2", long=True),
    _Set("every run ends: marshalled, called twice", "lease", "", cycles=True, long=True),
)

# Each must fail in this set.
_MUTANTS = (
    ("M_NO_POSTED_REFERENCE", "a stop, the user closes"),
    ("M_NO_PASSING_REFERENCE", "a stop, the user closes"),
    ("M_EVENT_WITHOUT_REFERENCE", "a stop, the user closes"),
    ("M_RELEASES_BEFORE_DELIVERY", "a stop, the user closes"),
    ("M_POSTS_TO_THE_ENDED", "a stop, the user closes"),
    ("M_CHECKS_WITHOUT_LOCK", "a stop, the user closes"),
    ("M_WRITES_STAY_OPEN", "the peer leaves"),
    ("M_WRITE_AFTER_ABORT", "Windows: a stop, the user closes"),
    ("M_NO_CANCEL", "the user closes"),
    ("M_CANCEL_RELEASES", "the user closes"),
    ("M_FINISH_EARLY", "the user closes"),
    ("M_OPEN_AFTER_STOP", "a stop, other connections"),
    ("M_STOPS_WORKERS_FIRST", "a stop, the user closes"),
    ("M_WAITS_FOR_ONE", "a stop, the user closes"),
    ("M_WAKE_WITHOUT_LOCK", "a stop, sleeping and waking step by step"),
    ("M_LOOKS_BEFORE_ASLEEP", "a stop, sleeping and waking step by step"),
    ("M_NO_WAKE_OF_INSTANCE", "a stop, sleeping and waking step by step"),
    ("M_NO_LEASE", "marshalled: a guest, a quit, a stop"),
    ("M_POLLS_BEFORE_BACKLOG", "marshalled: a guest, a quit, a stop"),
    ("M_LOOKS_BEFORE_UNCLAIM", "marshalled: a guest, a quit, a stop"),
    ("M_FORGETS_THE_GUEST", "marshalled: a guest, a quit, a stop"),
    ("M_ASKS_FOR_THE_GUEST_FIRST", "marshalled: a guest, a quit, a stop"),
)


@dataclass(frozen=True)
class _Result:
    error: str | None  # what is wrong in the model; None: nothing
    states: int
    depth: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="?", default="quick", choices=["quick", "long"])
    parser.add_argument("filter", nargs="*", help="only what has one of these in its name")
    args = parser.parse_args()
    if not shutil.which("spin"):
        sys.exit("spin is missing (Debian: apt install spin).")
    wanted = args.filter or [""]
    by_name = {s.name: s for s in _SETS}
    failed = 0
    print(f"{'what happens':<60} {'states':>10} {'depth':>6} {'seconds':>8}")
    for s in _SETS:
        if (s.long and args.kind != "long") or not any(word in s.name for word in wanted):
            continue
        result = _check(s, s.switches, optimize=s.long)
        print(
            f"{s.name:<60} {result.states:>10} {result.depth:>6} {result.seconds:>8.1f}"
            + (f"  {result.error}" if result.error else ""),
            flush=True,
        )
        failed += result.error is not None
    for mutation, name in _MUTANTS:
        if not any(word in mutation for word in wanted):
            continue
        result = _check(by_name[name], f"{by_name[name].switches} {mutation}")
        print(
            f"{mutation:<60} {result.states:>10} {result.depth:>6} {result.seconds:>8.1f}  {result.error or 'NOT FOUND'}",
            flush=True,
        )
        failed += result.error is None
    if failed:
        print(f"{failed} of them failed.")
    return 1 if failed else 0


def _check(s: _Set, switches: str, *, optimize: bool = False) -> _Result:
    defines = [f"-D{name}" for name in switches.split()]
    kind = ["-DNP"] if s.cycles else ["-DSAFETY"]
    with tempfile.TemporaryDirectory() as folder:
        _run(["spin", "-a", *defines, str(_HERE / f"{s.model}.pml")], folder)
        # A short search takes less time than the compiler's optimizing.
        effort = ["-O2", "-DCOLLAPSE"] if optimize else ["-O0"]
        _run(["gcc", *effort, "-w", *kind, "-DVECTORSZ=512", f"-DMEMLIM={_MEGABYTES}", "-o", "pan", "pan.c"], folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        text = _run(["./pan", f"-m{_DEPTH}", "-w20", "-n", *(["-l"] if s.cycles else [])], folder)
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    # A search that was cut short says nothing, whether it found something or not.
    for cut in ("max search depth too small", "out of memory", "memory limit", "Search not completed"):
        if cut in text and "pan:1:" not in text:
            sys.exit(f"{s.name}: the search was not complete: {cut}\n{text}")
    numbers = re.search(r"depth reached (\d+), errors: (\d+)\s+(\d+) states, stored", text)
    if not numbers:
        sys.exit(f"{s.name}: the search ended early:\n{text}")
    depth, errors, states = (int(n) for n in numbers.groups())
    found = re.search(r"pan:1: (.*) \(at depth", text)
    if errors and not found:
        sys.exit(f"{s.name}: an error without a name:\n{text}")
    return _Result(found.group(1) if found else None, states, depth, seconds)


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode or "Error:" in done.stdout:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
