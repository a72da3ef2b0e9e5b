"""Building without what it takes: the last lines say what is missing, and what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import linux_only

PROJECT = Path(__file__).resolve().parent.parent
pytestmark = [
    linux_only,
    pytest.mark.skipif(not (PROJECT / "setup.py").exists(), reason="the source is not here"),
]

WITHOUT_HEADERS = """
import sysconfig
get_path = sysconfig.get_path
sysconfig.get_path = lambda name, *args, **kw: "/nowhere" if name == "include" else get_path(name, *args, **kw)
"""
SETUP = """
import runpy, sys
sys.argv = ["setup.py", "build_ext"]
runpy.run_path({!r}, run_name="__main__")
"""


def build(directory, program="", **environment):
    """setup.py's last lines, in a directory with the C source and without the project's metadata."""
    pytest.importorskip("setuptools")
    (directory / "src").symlink_to(PROJECT / "src")
    done = subprocess.run(
        [sys.executable, "-c", program + SETUP.format(str(PROJECT / "setup.py"))],
        cwd=directory,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    return done.stdout


def test_a_missing_compiler_is_named(tmp_path):
    said = build(tmp_path, CC="no-such-compiler")
    assert said.rstrip().endswith(
        "there is no 'no-such-compiler'. Debian, Ubuntu: apt install gcc libc6-dev;"
        " Fedora: dnf install gcc. Another one is taken from the environment: CC=clang"
    )


def test_missing_headers_are_named(tmp_path):
    said = build(tmp_path, WITHOUT_HEADERS, CC="false")
    assert "there is no Python.h in /nowhere. Debian, Ubuntu: apt install python3." in said


def test_a_failure_of_another_kind_is_told_as_it_is(tmp_path):
    said = build(tmp_path, CC="false")
    assert "error: " in said.splitlines()[-1] and "false" in said
    assert "npipes is built with" not in said


def test_another_system_is_named(tmp_path):
    said = build(tmp_path, 'import setuptools, setuptools.command.build_ext, sys; sys.platform = "darwin"\n')
    assert said == "npipes runs on Linux and Windows (linux, win32); sys.platform is 'darwin'\n"
