"""Names and the addresses they stand for."""

import os
import stat
import tempfile

import pytest
from support import (
    WINDOWS,
    Client,
    echo,
    is_wine,
    linux_only,
    needs_names_of_ones_own,
    running,
    windows_only,
)

import npipes


@pytest.fixture
def directory(monkeypatch):
    """Linux: $NPIPES_DIR, not made yet; short, as sun_path is."""
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as parent:
        path = os.path.join(parent, "d")
        monkeypatch.setenv("NPIPES_DIR", path)
        yield path


def refused(name, error=ValueError, match=None):
    """address() and start() both refuse the name; making the server doesn't."""
    with pytest.raises(error, match=match):
        npipes.address(name)
    server = npipes.Server(name)
    with pytest.raises(error, match=match):
        server.start()
    assert not server.is_running


# ---- on both systems ------------------------------------------------------


def test_an_empty_name_is_a_value_error():
    refused("", match="without specifying a pipe name")


def test_a_name_with_a_nul_is_a_value_error():
    refused("a\0b")


def test_a_name_is_a_string_or_a_path(pipe_name, tmp_path):
    for name in (None, 5, b"bytes", ["x"]):
        with pytest.raises(TypeError, match="name"):
            npipes.Server(name)
    server = npipes.Server(pipe_name)
    with pytest.raises(TypeError, match="name"):
        server.name = None
    assert server.name == pipe_name
    server.name = tmp_path / "x"
    assert server.name == str(tmp_path / "x")
    with pytest.raises(AttributeError):
        del server.name


def test_an_address_stands_for_itself(pipe_name):
    address = npipes.address(pipe_name)
    assert npipes.address(address) == address
    assert npipes.Server(pipe_name).address == address
    with npipes.Server(address, free_threading_events=True, on_message=echo) as server:
        assert server.address == address
        with Client(address) as client:
            assert client.request(b"x") == b"x"


def test_a_name_may_have_any_letters(pipe_name):
    # Wine creates pipes with letters outside ASCII, but does not find all of them again.
    name = pipe_name + (" (letters).txt" if is_wine() else " grüße-日本.txt")
    server = npipes.Server(name, free_threading_events=True, on_message=echo)
    with server, Client(server) as client:
        assert server.address.endswith(name)
        assert client.request(b"x") == b"x"


def test_a_second_server_on_a_live_name_is_refused(pipe_name, free):
    needs_names_of_ones_own()
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as first:
        second = npipes.Server(pipe_name, free_threading_events=free)
        for _ in range(3):
            with pytest.raises(FileExistsError) as info:
                second.start()
            assert info.value.filename == first.address
        with Client(first) as client:
            assert client.request(b"x") == b"x"
    with second:
        assert second.is_running


def test_nobody_finds_a_server_that_has_stopped(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    with running(server), Client(server):
        pass
    with pytest.raises(FileNotFoundError):
        Client(server)


# ---- Windows --------------------------------------------------------------


@windows_only
def test_a_leaf_name_is_below_pipe():
    assert npipes.address("demo") == r"\\.\pipe\demo"
    assert npipes.address("a.b c") == r"\\.\pipe\a.b c"
    assert npipes.address(r"\\.\pipe\demo") == r"\\.\pipe\demo"


@windows_only
def test_backslashes_are_not_for_leaf_names():
    refused("a\\b", match="a")
    refused("\\", ValueError)


@windows_only
def test_a_name_has_256_characters_at_most():
    longest = "x" * (256 - len(r"\\.\pipe" + "\\"))
    assert npipes.address(longest).endswith(longest)
    refused("x" * 300, match="long")


@windows_only
def test_names_are_case_insensitive(pipe_name):
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as server:
        with Client(server.address.upper().replace("PIPE", "pipe")) as client:
            assert client.request(b"x") == b"x"


# ---- Linux: the directory -------------------------------------------------


@linux_only
def test_a_leaf_name_is_below_the_directory_of_the_environment(monkeypatch):
    monkeypatch.setenv("NPIPES_DIR", "/one")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/two")
    assert npipes.address("demo") == "/one/demo"
    monkeypatch.setenv("NPIPES_DIR", "")
    assert npipes.address("demo") == "/two/npipes/demo"
    monkeypatch.delenv("NPIPES_DIR")
    assert npipes.address("demo") == "/two/npipes/demo"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert npipes.address("demo") == f"/tmp/npipes-{os.geteuid()}/demo"
    assert npipes.address("back\\slash") == f"/tmp/npipes-{os.geteuid()}/back\\slash"


@linux_only
def test_an_address_creates_nothing(directory):
    npipes.address("demo")
    assert npipes.Server("demo").address == f"{directory}/demo"
    assert not os.path.exists(directory)


@linux_only
def test_start_makes_the_directory_for_this_user_only(directory):
    old = os.umask(0)
    try:
        with npipes.Server("demo") as server:
            assert server.address == f"{directory}/demo"
            assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
            assert stat.S_IMODE(os.stat(server.address).st_mode) == 0o600
    finally:
        os.umask(old)
    assert os.listdir(directory) == []
    with npipes.Server("demo"):  # and takes it when it is there
        pass


@linux_only
def test_a_directory_in_the_runtime_directory_is_made_too(directory, monkeypatch):
    parent = os.path.dirname(directory)
    monkeypatch.delenv("NPIPES_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", parent)
    with npipes.Server("demo") as server:
        assert server.address == f"{parent}/npipes/demo"


@linux_only
@pytest.mark.parametrize("mode", [0o701, 0o710, 0o770, 0o755, 0o777, 0o1777])
def test_a_directory_that_others_can_use_is_refused(directory, mode):
    os.mkdir(directory)
    os.chmod(directory, mode)
    with pytest.raises(PermissionError, match="0700") as info:
        npipes.Server("demo").start()
    assert info.value.filename == directory
    assert os.listdir(directory) == []


@linux_only
@pytest.mark.skipif(not WINDOWS and os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory):
    os.mkdir(directory, 0o700)
    os.chown(directory, 65534, 65534)
    with pytest.raises(PermissionError, match="65534"):
        npipes.Server("demo").start()


@linux_only
def test_a_directory_that_is_a_link_or_a_file_is_refused(directory, tmp_path):
    os.symlink(tmp_path, directory)
    with pytest.raises(NotADirectoryError):
        npipes.Server("demo").start()
    os.unlink(directory)
    with open(directory, "w"):
        pass
    with pytest.raises(NotADirectoryError):
        npipes.Server("demo").start()


@linux_only
def test_a_lock_leaves_nothing_behind(directory):
    for _ in range(3):
        with npipes.Server("demo"):
            assert os.listdir(directory) == ["demo"]
    assert os.listdir(directory) == []


# ---- Linux: paths and abstract names --------------------------------------


@linux_only
def test_a_name_with_a_slash_is_a_path(directory, monkeypatch):
    parent = os.path.dirname(directory)
    path = f"{parent}/my.socket"
    with npipes.Server(path, free_threading_events=True, on_message=echo) as server:
        assert server.address == npipes.address(path) == path
        with Client(path) as client:
            assert client.request(b"x") == b"x"
    monkeypatch.chdir(parent)
    with npipes.Server("./other") as server:
        assert server.address == "./other"
        assert stat.S_ISSOCK(os.stat(f"{parent}/other").st_mode)
    assert os.listdir(parent) == []


@linux_only
def test_the_directory_of_a_path_must_be_there(directory):
    with pytest.raises(FileNotFoundError) as info:
        npipes.Server(f"{os.path.dirname(directory)}/missing/x").start()
    assert "missing/x" in info.value.filename


@linux_only
@pytest.mark.parametrize("name", ["/tmp/", "./", "/"])
def test_a_path_must_name_a_file(name):
    with pytest.raises((ValueError, OSError)):
        npipes.Server(name).start()


@linux_only
@pytest.mark.parametrize("name", [".", ".."])
def test_dots_are_no_names(name):
    refused(name, match="not a pipe name")


@linux_only
def test_a_path_that_is_too_long_is_refused_before_anything_is_made(directory):
    room = 107 - len(directory) - 1
    refused("x" * (room + 1), match="108 bytes long, at most 107")
    refused("ü" * (room // 2 + 1), match="long")
    refused("/tmp/" + "x" * 103, match="108 bytes long, at most 107")
    refused("@" + "x" * 108, match="109 bytes long, at most 108")
    refused("x" * 5000, match="long")
    assert not os.path.exists(directory)
    with npipes.Server("x" * room, free_threading_events=True, on_message=echo) as server:
        assert len(server.address) == 107
        with Client(server) as client:
            assert client.request(b"x") == b"x"
    assert os.listdir(directory) == []


@linux_only
@pytest.mark.parametrize("length", [None, 108])
def test_a_name_that_begins_with_an_at_sign_is_abstract(pipe_name, length):
    name = "@" + pipe_name
    name += "x" * (length - len(name) if length else 0)
    with npipes.Server(name, free_threading_events=True, on_message=echo) as server:
        assert server.address == npipes.address(name) == name
        with Client(server) as client:
            assert client.request(b"x") == b"x"
        with pytest.raises(FileExistsError):
            npipes.Server(name).start()
    with pytest.raises(ConnectionRefusedError):
        Client(server)


@linux_only
def test_an_at_sign_alone_is_an_empty_name():
    refused("@", match="without specifying a pipe name")
