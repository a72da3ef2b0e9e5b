#!/usr/bin/env python3
"""Build npipes for Windows on a Linux machine and run it under Wine.

    run.py pytest [arguments]   the tests, or those that the arguments name, on a Windows CPython that has npipes installed
    run.py python [arguments]   that Windows CPython with any arguments
    run.py engine [arguments]   the engine's C tests, without Python
    run.py bench [arguments]    round trips beside raw C and the standard library: tests/bench/windows.py

What is missing is built first, into a cache. The exit code is that of the Windows program.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import cache
import engine
import extension
import interpreter
import nats
import wine

PROJECT = Path(__file__).resolve().parents[2]


def run_python(arguments: list[str], more: dict[str, str] | None = None) -> int:
    python = interpreter.prepare()
    package = extension.prepare(PROJECT, python) / "site"
    variables = {
        "PYTHONPATH": wine.windows_path(package),
        # The working directory is the project, whose own npipes/ has no extension module in it: not to be imported.
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    variables |= more or {}
    return wine.run([python / "python.exe", *arguments], cwd=PROJECT, variables=variables)


def run_pytest(arguments: list[str]) -> int:
    named = any((PROJECT / argument.partition("::")[0]).exists() for argument in arguments if not argument.startswith("-"))
    with nats.running() as variables:
        return run_python(["-m", "pytest", "-p", "no:cacheprovider", *arguments, *([] if named else ["tests"])], variables)


def run_engine(arguments: list[str]) -> int:
    return wine.run([engine.prepare(PROJECT), *arguments], cwd=PROJECT)


def run_bench(arguments: list[str]) -> int:
    raw = engine.prepare_raw(PROJECT)
    return run_python(["tests/bench/windows.py", wine.windows_path(raw), *arguments])


COMMANDS = {"pytest": run_pytest, "python": run_python, "engine": run_engine, "bench": run_bench}


def main() -> int:
    command = COMMANDS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if not command:
        sys.exit(__doc__)
    wine.require_tools()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was started is ended
    with cache.use(last_one_out=wine.stop):
        return command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
