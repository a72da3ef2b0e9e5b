"""npipes.find: the live pipes whose names match."""

import os
import socket

import pytest
from support import TIMEOUT, Log, is_wine, linux_only, running, windows_only

import npipes

pytestmark = pytest.mark.skipif(is_wine(), reason="FindFirstFileW fails on pipes under Wine")


@pytest.fixture
def prefix(new_name):
    return new_name() + "-"


@pytest.fixture
def three(prefix):
    with npipes.Listener(prefix + "one"), npipes.Listener(prefix + "Two"):
        with npipes.Server(prefix + "three", free_threading_events=True):
            yield prefix


def test_servers_and_listeners_are_found(three):
    found = npipes.find()
    assert found == sorted(found) and isinstance(found, list)
    assert [n for n in found if n.startswith(three)] == sorted(three + leaf for leaf in ("one", "Two", "three"))


@pytest.mark.parametrize(
    "pattern, leaves",
    [
        ("*", ["Two", "one", "three"]),
        ("one", ["one"]),
        ("o?e", ["one"]),
        ("???", ["Two", "one"]),
        ("t*e", ["three"]),
        ("*t*", ["three"]),
        ("o", []),
        ("", []),
        ("[o]ne", []),
        (".*", []),
    ],
)
def test_a_pattern_has_stars_and_question_marks(three, pattern, leaves):
    found = npipes.find(three + pattern)
    if os.name == "nt" and "t" in pattern:  # whatever the case
        leaves = sorted({*leaves, *(["Two"] if pattern == "*t*" else [])})
    assert found == [three + leaf for leaf in leaves]


def test_brackets_stand_for_themselves(prefix):
    with npipes.Listener(prefix + "[ab]"):
        assert npipes.find(prefix + "[ab]") == [prefix + "[ab]"]
        assert npipes.find(prefix + "[a?]") == [prefix + "[ab]"]


def test_what_has_ended_is_not_found(prefix):
    with npipes.Listener(prefix + "x"):
        assert npipes.find(prefix + "*") == [prefix + "x"]
    assert npipes.find(prefix + "*") == []


def test_servers_are_not_disturbed(prefix):
    log = Log()
    server = npipes.Server(prefix + "x", free_threading_events=True, **log.handlers("on_connected", "on_error"))
    with running(server):
        for _ in range(5):
            assert npipes.find(prefix + "*") == [prefix + "x"]
        with npipes.connect(prefix + "x"):
            log.wait("on_connected")
        assert len(log.of("on_connected")) == 1 and not log.of("on_error")


@windows_only
def test_case_is_nothing(three):
    assert npipes.find(three.upper() + "TWO") == [three + "Two"]


@linux_only
def test_files_that_nobody_listens_on_are_not_pipes(prefix, three):
    directory = os.path.dirname(npipes.address("x"))
    before = npipes.find()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.path.join(directory, prefix + "dead"))
    with open(os.path.join(directory, prefix + "file"), "w"):
        pass
    os.mkdir(os.path.join(directory, prefix + "directory"))
    os.symlink(npipes.address(three + "one"), os.path.join(directory, prefix + "link"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(os.path.join(directory, prefix + "datagrams"))
        assert npipes.find() == before
    for name in ("dead", "file", "link", "datagrams"):
        os.unlink(os.path.join(directory, prefix + name))
    os.rmdir(os.path.join(directory, prefix + "directory"))


@linux_only
def test_a_directory_that_is_not_there_has_no_pipes(monkeypatch, tmp_path):
    monkeypatch.setenv("NPIPES_DIR", str(tmp_path / "none"))
    assert npipes.find() == []


def test_what_is_found_can_be_connected_to(three):
    (name,) = npipes.find(three + "one")
    with npipes.connect(name, timeout=TIMEOUT):
        pass
