"""Running a Windows program under Wine: the tools it takes, the prefix, the environment, the output, the end."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cache

_PACKAGES = "wine64 wine gcc-mingw-w64-x86-64 mingw-w64-tools"
_TOOLS = ("wine", "wineserver", "x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-dlltool", "gendef")

# Meant for the Linux interpreter or for Linux programs, wrong or harmful for a Windows one. TMPDIR would win over Wine's own
# TEMP, which is inside the prefix; without a display Wine opens no windows.
_DROPPED = ("TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "DISPLAY", "WAYLAND_DISPLAY")


def require_tools() -> None:
    """Leave with an explanation unless Wine and the cross compiler are installed."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        sys.exit(
            f"The Windows side needs {', '.join(missing)}, not found on PATH.\n"
            f"On Debian or Ubuntu: apt-get install --no-install-recommends {_PACKAGES}"
        )


def windows_path(path: Path) -> str:
    """The path as a Windows program names it: drive Z: is the root directory."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


def run(command: Sequence[str | Path], *, cwd: Path, variables: Mapping[str, str] | None = None) -> int:
    """Run a Windows program, pass on what it prints as it comes, and return its exit code."""
    # Python starts under Wine only with a pipe (or /dev/null) for its output and without a terminal for its input. Wine hands on
    # eight bits of the exit code, and never 0 for a failure.
    process = subprocess.Popen(
        ["wine", *command],
        cwd=cwd,
        env=_environment(_prefix()) | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _pass_on(process)
        return process.wait()
    finally:
        process.kill()
        process.wait()


def stop() -> None:
    """End every Windows process and Wine's server, and wait until they are gone."""
    for prefix in cache.root().glob("prefix-*"):
        _stop(prefix)


def _pass_on(process: subprocess.Popen[bytes]) -> None:
    # The end of the program is not the end of the pipe: Wine's services, started by the first program of a prefix, and
    # orphans of the tests have it too. What the program wrote is in the pipe when it has ended, so then an empty pipe is the end.
    assert process.stdout
    pipe, held = process.stdout.fileno(), b""
    while True:
        if select.select([pipe], [], [], 0.1)[0]:
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                break
            # Lines end as they do here. A carriage return at the end of a chunk waits for what follows it.
            text = (held + chunk).replace(b"\r\n", b"\n")
            held = b"\r" if text.endswith(b"\r") else b""
            sys.stdout.buffer.write(text[: len(text) - len(held)])
            sys.stdout.buffer.flush()
        elif process.poll() is not None:
            break
    sys.stdout.buffer.write(held)
    sys.stdout.buffer.flush()


def _prefix() -> Path:
    version = subprocess.run(["wine", "--version"], capture_output=True, text=True, check=True).stdout
    return cache.entry("prefix", cache.key(version, "win10", os.environ.get("NPIPES_WINE_PREFIX", "")), _make_prefix)


def _make_prefix(prefix: Path) -> None:
    print("Making the Wine prefix", file=sys.stderr, flush=True)
    try:
        for command in (["wineboot", "--init"], ["winecfg", "-v", "win10"]):  # Wine 8 would call itself Windows 7
            subprocess.run(
                ["wine", *command],
                env=_environment(prefix),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        # The registry is written when the server goes by itself.
        subprocess.run(["wineserver", "-w"], env=_environment(prefix), timeout=60)
    finally:
        _stop(prefix)


def _stop(prefix: Path) -> None:
    # Both fail where no server runs, which is as good.
    subprocess.run(["wineserver", "-k"], env=_environment(prefix), stderr=subprocess.DEVNULL)
    subprocess.run(["wineserver", "-w"], env=_environment(prefix), stderr=subprocess.DEVNULL)


def _environment(prefix: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED and not name.startswith("PYTHON")}
    return kept | {
        "WINEPREFIX": str(prefix),
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        # No desktop menus in the home directory, no offer to download Mono and Gecko.
        "WINEDLLOVERRIDES": "winemenubuilder.exe=d;mscoree=d;mshtml=d",
        "LC_ALL": "C.UTF-8",  # else Wine can't name files outside ASCII
    }
