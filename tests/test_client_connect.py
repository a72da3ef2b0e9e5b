"""connect() finds a server that is there, waits for one that is not yet, and says why it gave up."""

import os
import threading
import time

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Outcome,
    echo,
    linux_only,
    raw_client,
    run_python,
    running,
    windows_only,
)

import npipes


def test_nobody_there_is_told_at_once(pipe_name):
    with pytest.raises(npipes.PipeNotFoundError) as info:
        npipes.connect(pipe_name, timeout=0)
    assert isinstance(info.value, FileNotFoundError)
    assert npipes.address(pipe_name) in str(info.value)
    assert info.value.operation == "connect"


def test_nobody_there_is_waited_for(pipe_name):
    with pytest.raises(npipes.PipeTimeoutError) as info:
        npipes.connect(pipe_name, timeout=0.1)
    assert npipes.address(pipe_name) in str(info.value)
    assert "nobody served this address for 0.1 seconds" in str(info.value)


def test_a_server_that_comes_later_is_found(pipe_name):
    connecting = Outcome(npipes.connect, pipe_name)
    assert connecting.is_waiting(0.2)
    with running(npipes.Server(pipe_name, free_threading_events=True, on_message=echo)):
        with connecting.get() as client:
            assert client.call(b"x", timeout=TIMEOUT) == b"x"


def test_an_address_does_as_well_as_a_name(serve):
    server = serve(on_message=echo)
    for name in (server.name, server.address):
        with npipes.connect(name) as client:
            assert client.address == server.address
            assert client.max_message_size == 64 << 20
            assert client.call(b"x", timeout=TIMEOUT) == b"x"


def test_names_are_those_of_servers():
    for name in ("", "a\0b"):
        with pytest.raises(ValueError):
            npipes.connect(name)
    for name in (None, 5):
        with pytest.raises(TypeError):
            npipes.connect(name)


def test_what_can_not_be_is_refused(pipe_name):
    for size in (0, -1, 1 << 63):
        with pytest.raises(ValueError, match="max_message_size"):
            npipes.connect(pipe_name, max_message_size=size)
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            npipes.connect(pipe_name, timeout=timeout)
    with pytest.raises(TypeError):
        npipes.connect(pipe_name, 5.0)


def test_a_wait_for_nobody_takes_no_processor(pipe_name):
    begin = time.process_time()
    with pytest.raises(npipes.PipeTimeoutError):
        npipes.connect(pipe_name, timeout=0.5)
    assert time.process_time() - begin < 0.2


# ---- busy -----------------------------------------------------------------


@pytest.fixture
def busy(serve):
    """Windows: a server whose instances are all taken."""
    server = serve(on_message=echo, max_instances=1, listeners=1)
    with npipes.connect(server.name) as client:
        assert client.call(b"x", timeout=TIMEOUT) == b"x"
        yield server, client


@windows_only
def test_a_busy_server_is_told_at_once(busy):
    server, _ = busy
    with pytest.raises(npipes.PipeBusyError, match="no room"):
        npipes.connect(server.name, timeout=0)


@windows_only
def test_a_busy_server_is_waited_for(busy):
    server, client = busy
    with pytest.raises(npipes.PipeTimeoutError, match="no room for another client for 0.1"):
        npipes.connect(server.name, timeout=0.1)
    connecting = Outcome(npipes.connect, server.name)
    assert connecting.is_waiting(0.1)
    client.close()
    with connecting.get() as other:
        assert other.call(b"y", timeout=TIMEOUT) == b"y"


@linux_only
def test_a_queue_that_is_full_is_a_busy_server(tmp_path):
    import socket

    path = os.path.join(npipes.address("x")[:-1], f"full-{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as server:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        server.bind(path)
        server.listen(0)
        try:
            with raw_client(path):
                with pytest.raises(npipes.PipeBusyError, match="no room"):
                    npipes.connect(path, timeout=0)
                with pytest.raises(npipes.PipeTimeoutError, match="no room"):
                    npipes.connect(path, timeout=0.05)
                connecting = Outcome(npipes.connect, path)
                assert connecting.is_waiting()
                server.accept()[0].close()
                connecting.get().close()
        finally:
            os.unlink(path)


# ---- refused --------------------------------------------------------------


@linux_only
@pytest.mark.skipif(not WINDOWS and os.geteuid() == 0, reason="root may connect everywhere")
def test_a_socket_that_is_not_for_this_user_is_told(serve):
    server = serve(access=0o000)
    with pytest.raises(npipes.AccessDeniedError) as info:
        npipes.connect(server.name)
    assert isinstance(info.value, PermissionError) and server.address in str(info.value)


@linux_only
@pytest.mark.skipif(not WINDOWS and os.geteuid() != 0, reason="takes root to become another user")
def test_another_user_is_refused(serve):
    server = serve(f"/tmp/np-refused-{os.getpid()}", access=0o600)
    run_python(
        """
        import os, sys
        import npipes

        os.setuid(65534)
        try:
            npipes.connect(sys.argv[1])
        except npipes.AccessDeniedError as error:
            assert sys.argv[1] in str(error)
        else:
            raise AssertionError("not refused")
        """,
        server.address,
    )


@linux_only
def test_a_socket_that_a_crash_left_behind_is_nobody(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(npipes.PipeNotFoundError):
        npipes.connect(tmp_path / "dead", timeout=0)


def test_a_server_that_closes_its_client_at_once_is_told(serve):
    server = serve(on_connected=lambda conn: conn.close())
    with npipes.connect(server.name) as client:
        with pytest.raises((npipes.ConnectionClosed, npipes.PipeClosedError, npipes.PipeResetError)) as info:
            client.call(b"x", timeout=TIMEOUT)
        assert server.address in str(info.value)


def test_a_server_that_stops_meanwhile_is_told(pipe_name):
    """Whatever moment the stop comes in."""
    for _ in range(20):
        with running(npipes.Server(pipe_name, free_threading_events=True)) as server:
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            try:
                with npipes.connect(pipe_name, timeout=0) as client:
                    client.call(b"x", timeout=TIMEOUT)
            except npipes.PipeError as error:
                assert server.address in str(error)
            stopping.join(TIMEOUT)


def test_many_threads_connect_at_once(serve):
    server = serve(on_message=echo)

    def talk():
        with npipes.connect(server.name) as client:
            return client.call(b"x", timeout=TIMEOUT)

    outcomes = [Outcome(talk) for _ in range(30)]
    assert all(outcome.get() == b"x" for outcome in outcomes)


def test_it_does_not_hold_up_other_threads(pipe_name):
    connecting = Outcome(npipes.connect, pipe_name, timeout=1.0)
    turns = 0
    while connecting.is_waiting(0.01):
        turns += 1
    assert turns > 3
    with pytest.raises(npipes.PipeTimeoutError):
        connecting.get()
