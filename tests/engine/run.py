#!/usr/bin/env python3
"""Builds the engine with its C tests and runs them: run.py [plain|asan|tsan|all] [--cc CC] [--repeat N] [FILTER ...]"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_ENGINE = _PROJECT / "src/engine"
_FOLDERS = ("src/engine", "src/engine/linux", "tests/engine", "tests/engine/linux")
_FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]
_KINDS = {
    "plain": ["-O2"],
    "asan": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
    "tsan": ["-O1", "-fsanitize=thread", "-fno-omit-frame-pointer"],
}
_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # A child of fork only looks and leaves, which is safe beside threads.
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:die_after_fork=0",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="?", default="plain", choices=[*_KINDS, "all"])
    parser.add_argument("filter", nargs="*", help="run only the tests whose names contain one of these")
    parser.add_argument("--cc", default="gcc", help="the compiler")
    parser.add_argument("--repeat", type=int, default=1, help="run that often, until one fails")
    args = parser.parse_args()
    if args.kind != "all":
        return _test(args.kind, args)
    # Beside each other: most of the tests wait.
    with ThreadPoolExecutor() as pool:
        return max(pool.map(lambda kind: _test(kind, args, at_the_end=True), _KINDS))


def _test(kind: str, args: argparse.Namespace, at_the_end: bool = False) -> int:
    with tempfile.TemporaryDirectory() as folder:
        program = _build(kind, args.cc, Path(folder))
        for number in range(args.repeat):
            title = f"{kind}, {args.cc}" + (f", {number + 1} of {args.repeat}" if args.repeat > 1 else "")
            if not at_the_end:
                print(title, flush=True)
            done = subprocess.run(
                [program, *args.filter],
                env={**_OPTIONS, **os.environ},
                text=True,
                stdout=subprocess.PIPE if at_the_end else None,
                stderr=subprocess.STDOUT if at_the_end else None,
            )
            end = f"{kind}: the tests ended with {done.returncode}\n" if done.returncode else ""
            print(f"{title}\n{done.stdout}{end}" if at_the_end else end, end="", flush=True)
            if done.returncode:
                return 1
    return 0


def _build(kind: str, compiler: str, target: Path) -> Path:
    folders = [_PROJECT / name for name in _FOLDERS]
    sources = [source for folder in folders for source in sorted(folder.glob("*.c"))]
    objects = [target / f"{number}.o" for number in range(len(sources))]
    flags = [*_FLAGS, *_KINDS[kind], *(f"-I{folder}" for folder in folders)]
    # The engine's allocations are counted, and can be made to fail.
    inject = ["-include", _PROJECT / "tests/engine/inject.h"]
    commands = [
        [compiler, *flags, *(inject if source.is_relative_to(_ENGINE) else []), "-c", source, "-o", made]
        for source, made in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        codes = list(pool.map(lambda command: subprocess.run(command).returncode, commands))
    program = target / "engine-tests"
    if any(codes) or subprocess.run([compiler, *_KINDS[kind], "-pthread", *objects, "-o", program]).returncode:
        sys.exit(f"Compiling the engine and its tests with {compiler} failed.")
    return program


if __name__ == "__main__":
    sys.exit(main())
