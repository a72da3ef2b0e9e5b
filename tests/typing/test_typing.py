"""The types that a program sees: the package checks itself, and the stubs are what is there."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import WINDOWS, child_environment

import npipes

USAGE = Path(__file__).with_name("usage.py")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed"
)


def run_mypy(directory, *args):
    """mypy on the package that this process has, from a directory that has none."""
    home = str(Path(npipes.__file__).resolve().parent.parent)
    environment = child_environment()
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        environment["MYPYPATH"] = home
    environment["MYPY_CACHE_DIR"] = os.fspath(directory / "cache")
    done = subprocess.run(
        [sys.executable, "-m", *args],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_program_is_typed_as_it_should_be(tmp_path, platform):
    run_mypy(tmp_path, "mypy", "--strict", "--platform", platform, os.fspath(USAGE))


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_the_package_is_typed(tmp_path, platform):
    run_mypy(tmp_path, "mypy", "--strict", "--platform", platform, "-p", "npipes")


def test_the_stubs_are_exact(tmp_path):
    args = []
    if not WINDOWS:
        allowed = tmp_path / "windows_only"
        allowed.write_text("npipes.native\nnpipes._native\n")
        args = ["--allowlist", os.fspath(allowed)]
    run_mypy(tmp_path, "mypy.stubtest", "npipes", *args)
