"""The npipes wheel, cross-compiled for the Windows interpreter and unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cache
from interpreter import COMPILER, TAG, VERSION

_INPUTS = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "src", "npipes")


def prepare(project: Path, python: Path) -> Path:
    """A directory for sys.path with the package in it, built from the project as it is now."""
    if not (project / "setup.py").exists():
        sys.exit(f"There is no setup.py in {project}.")
    inputs = [project / name for name in _INPUTS if (project / name).exists()]
    return cache.entry(
        f"package-{VERSION}", cache.key(python.name, Path(__file__), *inputs), lambda target: _make(project, python, target)
    )


def _make(project: Path, python: Path, target: Path) -> None:
    print(f"Building npipes for Windows and Python {VERSION}", file=sys.stderr, flush=True)
    build = target / "build"
    build.mkdir()
    # Each command is told its directory: by default they write build/, dist/ and an egg-info beside setup.py.
    commands = [
        *("egg_info", f"--egg-base={build}"),
        *("build", f"--build-base={build}"),
        *("build_ext", f"--library-dirs={python / 'libs'}", f"--libraries=python{TAG}"),
        *("bdist_wheel", "--plat-name=win_amd64", f"--bdist-dir={build / 'wheel'}", f"--dist-dir={target}"),
    ]
    done = subprocess.run(
        [sys.executable, "setup.py", *commands],
        cwd=project,
        env=_environment(python),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        sys.exit(f"{done.stdout}Building npipes for Windows failed ({done.returncode}).")
    _show_warnings(done.stdout)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "site")


def _environment(python: Path) -> dict[str, str]:
    # Flags meant for a Linux build must not reach this one.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name in ("CPPFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH"):
        kept.pop(name, None)
    return kept | {
        "NPIPES_TARGET": "win32",
        "PYTHONPATH": str(python / "build-tools"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SETUPTOOLS_EXT_SUFFIX": f".cp{TAG}-win_amd64.pyd",
        "CC": COMPILER,
        "CFLAGS": f"-O2 -Wall -I{python / 'headers'}",  # comes before the Linux headers that setuptools adds
        "LDSHARED": f"{COMPILER} -shared -static-libgcc",  # libgcc_s_seh-1.dll is not on a Windows machine
    }


def _show_warnings(output: str) -> None:
    lines = [line for line in output.splitlines() if ": warning:" in line]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr, flush=True)
