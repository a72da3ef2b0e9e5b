"""What a manager's connections say when they fail, and how long they try."""

import logging
import os
import shutil
import socket
import tempfile
import time

import pytest
from raw_server import fill, silent_server
from support import (
    WINDOWS,
    Log,
    echo,
    eventually,
    linux_only,
    python_process,
    run_python,
    seconds,
)

import npipes

ALL = ("on_connected", "on_disconnected", "on_error")


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def manager(manage, log):
    return manage(**log.handlers(*ALL))


def test_a_name_that_nobody_serves_is_one_error(manage, log, free, pipe_name):
    manager = manage(free_threading_events=free, **log.handlers(*ALL))
    conn = manager.connect(pipe_name, timeout=0)
    [(found, error)] = log.wait("on_error")
    assert found is conn and conn.error is error
    assert isinstance(error, npipes.PipeNotFoundError)
    assert isinstance(error, FileNotFoundError) and isinstance(error, npipes.PipeError)
    assert npipes.address(pipe_name) in str(error)
    assert error.operation == "connect" and error.cookie is None
    assert not conn.is_opening and not conn.is_connected
    manager.stop()
    assert log.names() == ["on_error"]


def test_an_error_without_a_handler_is_logged(manage, caplog, pipe_name):
    with caplog.at_level(logging.WARNING, "npipes"):
        conn = manage().connect(pipe_name, timeout=0)
        assert eventually(lambda: caplog.records)
    assert pipe_name in caplog.text
    assert conn.error


def test_the_wait_for_a_server_has_a_limit(manager, log, pipe_name):
    begin = time.monotonic()
    manager.connect(pipe_name, timeout=0.15)
    [(_, error)] = log.wait("on_error")
    assert time.monotonic() - begin >= 0.149
    assert isinstance(error, npipes.PipeNotFoundError) and "0.15 seconds" in str(error)


def test_a_server_that_comes_late_is_waited_for(serve, manager, log, pipe_name):
    conns = [manager.connect(pipe_name, timeout=timeout) for timeout in (60, None)]
    time.sleep(0.05)
    assert all(conn.is_opening for conn in conns)
    serve(on_message=echo)
    assert {conn for (conn,) in log.wait("on_connected", 2)} == set(conns)
    assert not log.of("on_error")


def test_a_server_without_room_is_busy(manager, log, pipe_name):
    with silent_server(npipes.address(pipe_name)):
        conn = fill(manager, pipe_name)
        assert isinstance(conn.error, npipes.PipeBusyError)
        assert npipes.address(pipe_name) in str(conn.error)
        begin = time.monotonic()
        late = manager.connect(pipe_name, timeout=0.2)
        log.wait("on_error", 2)
        assert time.monotonic() - begin >= 0.199
        assert isinstance(late.error, npipes.PipeBusyError) and "0.2 seconds" in str(late.error)


def test_connect_never_waits_for_a_server(manager, pipe_name):
    with silent_server(npipes.address(pipe_name)):
        assert seconds(lambda: [manager.connect(pipe_name, timeout=None) for _ in range(50)]) < 5


def test_a_place_that_becomes_free_is_taken(serve, manager, log, pipe_name):
    serve(max_instances=1)
    first = manager.connect(pipe_name)
    log.wait("on_connected")
    second = manager.connect(pipe_name, timeout=None)
    time.sleep(0.05)
    first.close()
    assert log.wait("on_connected", 2)[1] == (second,)


@pytest.mark.parametrize("name", ["", "x" * 400, "a\0b"])
def test_a_name_that_cannot_be_is_refused_at_once(name):
    manager = npipes.ClientManager()
    with pytest.raises(ValueError):
        manager.connect(name)
    assert not manager.is_running


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_cannot_be_is_refused_at_once(timeout):
    with pytest.raises(ValueError, match="timeout"):
        npipes.ClientManager().connect("demo", timeout=timeout)


def test_other_types_are_refused_at_once():
    for arguments in ((5,), (None,), ()):
        with pytest.raises(TypeError):
            npipes.ClientManager().connect(*arguments)
    with pytest.raises(TypeError):
        npipes.ClientManager().connect("demo", timeout="1")


def test_a_connection_that_is_not_open_refuses_to_write(manager, log, pipe_name):
    conn = manager.connect(pipe_name, timeout=None)
    for call in (lambda: conn.write(b"x"), lambda: conn.write_many([b"x"]), lambda: conn.peer):
        with pytest.raises(npipes.PipeClosedError, match="not open yet"):
            call()
    assert conn.handle == 0
    conn.close()
    assert not conn.is_opening
    with pytest.raises(npipes.PipeClosedError, match="closed"):
        conn.write(b"x")
    manager.stop()
    assert not log.entries  # who closes it knows


def test_a_server_that_closes_at_once_ends_the_connection(serve, manager, log, pipe_name):
    serve(on_connected=lambda conn: conn.close())
    conns = {manager.connect(pipe_name) for _ in range(20)}
    assert {conn for (conn,) in log.wait("on_disconnected", 20)} == conns
    assert not log.of("on_error")
    assert manager.is_running


def test_a_message_that_is_too_long_ends_the_connection(serve, manage, log, pipe_name):
    serve(on_connected=lambda conn: conn.write(bytes(1001)))
    conn = manage(max_message_size=1000, **log.handlers(*ALL)).connect(pipe_name)
    log.wait("on_disconnected")
    assert isinstance(conn.error, npipes.MessageTooLargeError)


# ---- whose server --------------------------------------------------------


@pytest.fixture
def open_directory():
    """Where every user may make and reach sockets."""
    directory = tempfile.mkdtemp(dir="/tmp")
    os.chmod(directory, 0o777)
    yield directory
    shutil.rmtree(directory)


def test_a_server_of_this_user_is_taken(serve, manage, log, pipe_name):
    serve(on_message=echo)
    conn = manage(server_owner="user", **log.handlers(*ALL)).connect(pipe_name)
    assert log.wait("on_connected") == [(conn,)]


FOREIGN = """
    import os, sys
    import npipes

    address, uid = sys.argv[1], int(sys.argv[2])
    os.umask(0)
    os.setuid(uid)
    with npipes.Server(address, access="everyone", free_threading_events=True):
        print("ready", flush=True)
        sys.stdin.readline()
"""


@linux_only
@pytest.mark.skipif(not WINDOWS and os.getuid() != 0, reason="only root can be another user")
def test_a_server_of_another_user_is_refused(manage, log, open_directory):
    path = f"{open_directory}/socket"
    with python_process(FOREIGN, path, 65534) as process:
        if process.stdout.readline() != "ready\n":
            pytest.skip("another user can't read this installation")
        strict = manage(server_owner="user", **log.handlers(*ALL))
        conn = strict.connect(path)
        [(found, error)] = log.wait("on_error")
        assert found is conn and isinstance(error, npipes.AccessDeniedError)
        assert path in str(error) and "65534" in str(error)
        manage(**log.handlers(*ALL)).connect(path)
        log.wait("on_connected")


@linux_only
def test_an_abstract_name_is_served_and_connected(serve, manage, log, pipe_name):
    serve("@" + pipe_name, on_message=echo)
    conn = manage(**log.handlers(*ALL)).connect("@" + pipe_name)
    assert log.wait("on_connected") == [(conn,)]
    assert conn.address == "@" + pipe_name


DENIED = """
    import os, sys, threading
    import npipes

    os.setuid(int(sys.argv[2]))
    failed = threading.Event()

    def on_error(conn, error):
        print(type(error).__name__, isinstance(error, PermissionError), error)
        failed.set()

    with npipes.ClientManager(free_threading_events=True, on_error=on_error) as manager:
        manager.connect(sys.argv[1])
        assert failed.wait(10)
"""


@linux_only
@pytest.mark.skipif(not WINDOWS and os.getuid() != 0, reason="only root can be another user")
def test_a_user_who_may_not_connect_is_told_so(serve, open_directory):
    server = serve(f"{open_directory}/socket")
    try:
        out = run_python(DENIED, server.address, 65534)
    except AssertionError as error:
        if "No module named" in str(error) or "Permission denied" in str(error):
            pytest.skip("another user can't read this installation")
        raise
    assert out.startswith("AccessDeniedError True") and server.address in out


@linux_only
def test_a_file_that_a_crash_left_behind_is_no_server(manager, log, pipe_name):
    address = npipes.address(pipe_name)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(address)
    manager.connect(pipe_name, timeout=0)
    [(_, error)] = log.wait("on_error")
    assert isinstance(error, npipes.PipeNotFoundError)
    os.unlink(address)
