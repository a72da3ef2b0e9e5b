#!/usr/bin/env python3
"""Builds the fuzzers and runs them: run.py short | long SECONDS | merge FOLDER | replay TARGET FILE ...

short   the corpus, then a few seconds of new inputs for each target
long    so many seconds in all, beginning with the corpus; what reaches something new stays in --found
merge   makes a new corpus of the old one and FOLDER/TARGET: the fewest inputs that reach every edge that these reach
replay  single inputs, such as the one that a failed run has left
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PROJECT = _HERE.parents[1]
_ENGINE = _PROJECT / "src/engine"
_ALLOCATIONS = _PROJECT / "tests/engine"  # allocations.c and inject.h are of the engine's C tests
_CORPUS = _HERE / "corpus"
# A source of the fuzzer's, and whose traits the scripted platform has: Linux's or Windows's.
_TARGETS = {
    "frame": ("fuzz_frame.c", "stream"),
    "handshake-stream": ("fuzz_handshake.c", "stream"),
    "handshake-message": ("fuzz_handshake.c", "message"),
    "server-stream": ("fuzz_server.c", "stream"),
    "server-message": ("fuzz_server.c", "message"),
    "client-stream": ("fuzz_client.c", "stream"),
    "client-message": ("fuzz_client.c", "message"),
}
_TRAITS = {"stream": [], "message": ["-DFUZZ_MESSAGES"]}
_SHORT = 3  # seconds of new inputs for each target
_SANITIZERS = "address,undefined"
_FLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    f"-fsanitize={_SANITIZERS}",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    f"-I{_ENGINE}",
    f"-I{_HERE}",
    f"-I{_HERE / 'platform'}",
    f"-I{_ALLOCATIONS}",  # the last: there are other files of these names
]
# The blocking side waits on the system itself, which is not scripted.
_LEFT_OUT = {"channel.c", "channel_greet.c", "channel_send.c", "door.c", "gate.c", "lobby.c"}
# An engine without memory for events, or for their queue, aborts.
_NEEDS_MEMORY = {"batch.c", "delivery.c"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["short", "long", "merge", "replay"])
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--cc", default="clang", help="a clang with libFuzzer")
    parser.add_argument("--target", action="append", choices=_TARGETS, help="only this one; may be repeated")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir()) / "npipes-fuzz", help="where new inputs go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(args, Path(folder))
        return {"short": run.short, "long": run.long, "merge": run.merge, "replay": run.replay}[args.what]()


class _Run:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.targets = args.target or list(_TARGETS)
        if args.what == "replay":
            self.targets = [args.arguments.pop(0)]
        self.programs = _build(self.targets, args.cc, folder)

    def short(self) -> int:
        return self._fuzz_all(lambda name: self._fuzz(name, _SHORT, self.folder / f"{name}-found"))

    def long(self) -> int:
        seconds = int(self.args.arguments[0]) * self._at_once() // len(self.targets)
        return self._fuzz_all(lambda name: self._fuzz(name, seconds, self.args.found / name))

    def _at_once(self) -> int:
        return min(os.cpu_count() or 1, len(self.targets))

    def _fuzz_all(self, fuzz: Callable[[str], int]) -> int:
        with ThreadPoolExecutor(self._at_once()) as pool:
            return max(pool.map(fuzz, self.targets))

    def merge(self) -> int:
        more = Path(self.args.arguments[0])
        for name in self.targets:
            old, new = _CORPUS / name, self.folder / f"{name}-corpus"
            old.mkdir(parents=True, exist_ok=True)
            new.mkdir()
            folders = [new, old, *([more / name] if (more / name).is_dir() else [])]
            code, text = self._call(name, ["-set_cover_merge=1", "-use_counters=0", "-max_len=400", *folders])
            if code:
                print(text)
                return 1
            shutil.rmtree(old)
            old.mkdir()
            for number, file in enumerate(sorted(new.iterdir(), key=lambda file: (file.stat().st_size, file.name))):
                shutil.copy(file, old / f"{number:03}")
        return 0

    def replay(self) -> int:
        return self._call(self.targets[0], self.args.arguments, shown=True)[0]

    def _fuzz(self, name: str, seconds: int, found: Path) -> int:
        corpus = _CORPUS / name
        # A failure leaves its input where it can be replayed from.
        failures = self.args.found / "failures"
        failures.mkdir(parents=True, exist_ok=True)
        found.mkdir(parents=True, exist_ok=True)
        given = sorted(corpus.iterdir())
        code, text = self._call(name, given)
        if code:
            print(text)
            return 1
        code, text = self._call(
            name,
            [
                f"-max_total_time={seconds}",
                "-max_len=1500",
                "-timeout=20",
                "-len_control=50",
                "-print_final_stats=1",
                f"-artifact_prefix={failures}/{name}-",
                found,
                corpus,
            ],
        )
        if code:
            print(text)
            return 1
        edges = [int(n) for n in re.findall(r"cov: (\d+)", text)]
        runs = re.search(r"number_of_executed_units:\s*(\d+)", text)
        assert runs, text
        print(f"{name}: {len(given)} inputs of the corpus, then {runs[1]} executions, {edges[-1]} edges", flush=True)
        return 0

    def _call(self, name: str, arguments: list[str | Path], shown: bool = False) -> tuple[int, str]:
        environment = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1", **os.environ}
        done = subprocess.run(
            [self.programs[name], *arguments],
            env=environment,
            text=True,
            errors="replace",
            stdout=None if shown else subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.returncode, done.stdout or ""


def _build(targets: list[str], compiler: str, folder: Path) -> dict[str, Path]:
    """One program for each target; those with the same traits share all objects but one."""
    engine = [source for source in sorted(_ENGINE.glob("*.c")) if source.name not in _LEFT_OUT]
    ours = [
        source
        for source in sorted([*_HERE.glob("*.c"), *(_HERE / "platform").glob("*.c"), _ALLOCATIONS / "allocations.c"])
        if not source.name.startswith("fuzz_")
    ]
    shared: dict[str, list[Path]] = {}
    compiles: list[list[str | Path]] = []

    def compile_to(made: Path, source: Path, traits: str) -> Path:
        flags = [*_FLAGS, *_TRAITS[traits], "-fsanitize=fuzzer-no-link"]
        if source in engine and source.name not in _NEEDS_MEMORY:
            flags += ["-include", str(_ALLOCATIONS / "inject.h")]
        compiles.append([compiler, *flags, "-c", source, "-o", made])
        return made

    for traits in sorted({_TARGETS[name][1] for name in targets}):
        shared[traits] = [
            compile_to(folder / f"{traits}-{source.parent.name}-{source.stem}.o", source, traits) for source in [*engine, *ours]
        ]
    links: list[list[str | Path]] = []
    for name in targets:
        source, traits = _TARGETS[name]
        fuzzer = compile_to(folder / f"{name}.o", _HERE / source, traits)
        links.append([compiler, f"-fsanitize={_SANITIZERS},fuzzer", *shared[traits], fuzzer, "-o", folder / name])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for commands in (compiles, links):
            if any(pool.map(lambda command: subprocess.run(command).returncode, commands)):
                sys.exit(f"Building the fuzzers with {compiler} failed.")
    return {name: folder / name for name in targets}


if __name__ == "__main__":
    sys.exit(main())
