"""The engine's C tests, cross-compiled into one program without Python."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cache
from interpreter import COMPILER

_FOLDERS = ("src/engine", "src/engine/windows", "tests/engine", "tests/engine/windows")
# DWARF 4 is what Wine's debugger understands, which prints a backtrace when the program crashes.
_FLAGS = ["-std=c11", "-O1", "-gdwarf-4", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
_LIBRARIES = ["-lntdll", "-ladvapi32"]


def prepare(project: Path) -> Path:
    """The test program, compiled from the project as it is now."""
    folders = [project / name for name in _FOLDERS]
    sources = [source for folder in folders for source in sorted(folder.glob("*.c"))]
    if not sources:
        sys.exit(f"There is no C source in {', '.join(_FOLDERS)} of {project}.")
    files = [*sources, *(header for folder in folders for header in sorted(folder.glob("*.h")))]
    named = [text for file in files for text in (str(file.relative_to(project)), file)]  # two folders have files of one name
    key = cache.key(Path(__file__), *named)
    return cache.entry("engine", key, lambda target: _make(sources, folders, target)) / "engine.exe"


def prepare_raw(project: Path) -> Path:
    """The yardstick of the benchmark: an echo server straight on the system."""
    source = project / "tests/bench/rawiocp.c"
    command = [COMPILER, "-std=c11", "-O2", "-Wall", "-Wextra", "-static", source, "-o"]

    def make(target: Path) -> None:
        if not _call([*command, target / "rawiocp.exe"]):
            sys.exit("Compiling tests/bench/rawiocp.c failed.")

    return cache.entry("raw", cache.key(Path(__file__), source), make) / "rawiocp.exe"


def _make(sources: list[Path], folders: list[Path], target: Path) -> None:
    print(f"Compiling the engine and its tests for Windows ({len(sources)} files)", file=sys.stderr, flush=True)
    includes = [f"-I{folder}" for folder in folders]
    objects = [target / f"{number}.o" for number in range(len(sources))]
    engine, tests = folders[0], folders[2]
    # The engine's allocations are counted, and can be made to fail.
    inject = ["-include", tests / "inject.h"]
    compile_one = [COMPILER, *_FLAGS, *includes]
    compilations = [
        [*compile_one, *(inject if source.is_relative_to(engine) else []), "-c", source, "-o", made]
        for source, made in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(_call, compilations))  # all of them, to show every error at once
    # Static: the compiler's own DLLs are not on a Windows machine.
    if not all(results) or not _call([COMPILER, *objects, *_LIBRARIES, "-static", "-o", target / "engine.exe"]):
        sys.exit("Compiling the engine for Windows failed.")


def _call(command: list[str | Path]) -> bool:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.stdout:
        sys.stderr.buffer.write(done.stdout)
        sys.stderr.flush()
    return done.returncode == 0
