"""npipes.Listener: an address, and the clients that come to it."""

import gc
import os
import stat
import time
import weakref

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    Outcome,
    linux_only,
    needs_names_of_ones_own,
    run_python,
    windows_only,
)

import npipes


def test_a_listener_has_its_address(pipe_name):
    with npipes.Listener(pipe_name) as listener:
        assert listener.address == npipes.address(pipe_name)
        assert listener.last_accepted is None and not listener.closed
        assert "open" in repr(listener) and listener.address in repr(listener)
    assert listener.closed and listener.address == npipes.address(pipe_name)
    assert "closed" in repr(listener)
    with npipes.Listener(npipes.address(pipe_name)) as again:
        assert again.address == listener.address


def test_a_listener_without_a_name_has_one_of_its_own():
    with npipes.Listener() as one, npipes.Listener() as other:
        assert one.address != other.address
        with npipes.connect(one.address) as client, one.accept() as conn:
            client.send_bytes(b"x")
            assert conn.recv_bytes(timeout=TIMEOUT) == b"x"


def test_clients_are_accepted_in_their_order(listener):
    clients = [npipes.connect(listener.address) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send_bytes(b"%d" % number)
    got = []
    for _ in clients:
        with listener.accept(timeout=TIMEOUT) as conn:
            got.append(conn.recv_bytes(timeout=TIMEOUT))
    assert sorted(got) == [b"0", b"1", b"2", b"3", b"4"]
    for client in clients:
        client.close()


def test_more_clients_than_wait_at_once_are_accepted(listener):
    outcomes = [Outcome(npipes.call, listener.address, b"%d" % i, timeout=TIMEOUT) for i in range(30)]
    for _ in outcomes:
        with listener.accept(timeout=TIMEOUT) as conn:
            conn.send_bytes(conn.recv_bytes(timeout=TIMEOUT))
    assert [o.get() for o in outcomes] == [b"%d" % i for i in range(30)]


def test_a_client_that_came_and_left_is_accepted(listener):
    """What it sent is still there."""
    with npipes.connect(listener.address) as client:
        client.send_bytes(b"hello")
    with listener.accept(timeout=TIMEOUT) as conn:
        assert conn.recv_bytes(timeout=TIMEOUT) == b"hello"
        with pytest.raises(npipes.ConnectionClosed):
            conn.recv_bytes(timeout=TIMEOUT)


def test_a_silent_client_holds_up_nobody(listener):
    with npipes.connect(listener.address), listener.accept(timeout=TIMEOUT):
        with npipes.connect(listener.address) as client:
            with listener.accept(timeout=TIMEOUT) as conn:
                client.send_bytes(b"x")
                assert conn.recv_bytes(timeout=TIMEOUT) == b"x"


def test_several_threads_accept(listener):
    accepting = [Outcome(listener.accept, timeout=TIMEOUT) for _ in range(4)]
    clients = [npipes.connect(listener.address) for _ in range(4)]
    conns = [outcome.get() for outcome in accepting]
    for client in clients:
        client.send_bytes(b"x")
    for conn in conns:
        assert conn.recv_bytes(timeout=TIMEOUT) == b"x"
        conn.close()
    for client in clients:
        client.close()


def test_what_was_accepted_lives_on_after_close(listener):
    with npipes.connect(listener.address) as client, listener.accept() as conn:
        listener.close()
        client.send_bytes(b"x")
        assert conn.recv_bytes(timeout=TIMEOUT) == b"x"


def test_max_message_size_is_for_what_is_accepted(pipe_name):
    with npipes.Listener(pipe_name, max_message_size=10) as listener:
        with npipes.connect(pipe_name) as client, listener.accept() as conn:
            assert conn.max_message_size == 10
            client.send_bytes(bytes(11))
            with pytest.raises(npipes.MessageTooLargeError):
                conn.recv_bytes(timeout=TIMEOUT)


# ---- close ----------------------------------------------------------------


def test_close_ends_accept_in_other_threads(listener):
    accepting = [Outcome(listener.accept) for _ in range(3)]
    assert all(outcome.is_waiting() for outcome in accepting)
    listener.close()
    for outcome in accepting:
        with pytest.raises(npipes.PipeClosedError, match="listener is closed") as info:
            outcome.get()
        assert listener.address in str(info.value)
    listener.close()
    with pytest.raises(npipes.PipeClosedError, match="listener is closed"):
        listener.accept()


def test_nobody_finds_a_listener_that_is_closed(listener):
    listener.close()
    with pytest.raises(npipes.PipeNotFoundError):
        npipes.connect(listener.address, timeout=0)
    with npipes.Listener(listener.address) as again:
        assert again.address == listener.address


def test_clients_that_nobody_accepted_see_the_end(listener):
    with npipes.connect(listener.address) as client:
        listener.close()
        with pytest.raises((npipes.ConnectionClosed, npipes.PipeResetError)):
            client.recv_bytes(timeout=TIMEOUT)


def test_a_listener_that_is_dropped_is_closed(pipe_name):
    listener = npipes.Listener(pipe_name)
    gone = weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is None
    with pytest.raises(npipes.PipeNotFoundError):
        npipes.connect(pipe_name, timeout=0)


def test_waiting_takes_no_processor(listener):
    begin = time.process_time()
    with pytest.raises(npipes.PipeTimeoutError):
        listener.accept(timeout=0.5)
    assert time.process_time() - begin < 0.2


# ---- who and where --------------------------------------------------------


def test_an_address_has_one_listener(listener):
    needs_names_of_ones_own()
    with pytest.raises(FileExistsError) as info:
        npipes.Listener(listener.address)
    assert info.value.filename == listener.address
    server = npipes.Server(listener.address)
    with pytest.raises(FileExistsError):
        server.start()


def test_names_that_can_not_be_are_refused(pipe_name):
    for name in ("", "a\0b"):
        with pytest.raises(ValueError):
            npipes.Listener(name)
    with pytest.raises(TypeError):
        npipes.Listener(5)
    with pytest.raises(ValueError, match="access"):
        npipes.Listener(pipe_name, access=5.5)


def test_a_listener_is_made_once(listener):
    with pytest.raises(RuntimeError):
        listener.__init__("another")
    unmade = npipes.Listener.__new__(npipes.Listener)
    with pytest.raises(RuntimeError):
        unmade.accept()
    unmade.close()
    assert unmade.closed and repr(unmade)


@linux_only
@pytest.mark.parametrize("access, mode", [("user", 0o600), ("everyone", 0o666), (0o640, 0o640)])
def test_access_is_that_of_servers(pipe_name, access, mode):
    with npipes.Listener(pipe_name, access=access) as listener:
        assert stat.S_IMODE(os.stat(listener.address).st_mode) == mode
        with Client(listener.address) as client, listener.accept(timeout=TIMEOUT) as conn:
            client.send(b"x")
            assert conn.recv_bytes(timeout=TIMEOUT) == b"x"


@windows_only
def test_access_may_be_sddl(pipe_name):
    with npipes.Listener(pipe_name, access="D:P(A;;GA;;;WD)") as listener:
        with npipes.connect(pipe_name), listener.accept(timeout=TIMEOUT):
            pass
    with pytest.raises(ValueError):
        npipes.Listener(pipe_name, access="nonsense")


@linux_only
@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="takes root to become another user")
def test_a_client_of_another_user_is_none():
    with npipes.Listener(f"@np-listener-{os.getpid()}", access="everyone") as listener:
        accepting = Outcome(listener.accept, timeout=TIMEOUT)
        run_python(
            """
            import os, socket, sys

            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as refused:
                refused.settimeout(20)
                refused.connect("\\0" + sys.argv[1][1:])
                assert refused.recv(1) == b""
            """,
            listener.address,
        )
        assert accepting.is_waiting()
        with npipes.connect(listener.address) as client, accepting.get() as conn:
            client.send_bytes(b"x")
            assert conn.recv_bytes(timeout=TIMEOUT) == b"x"


@linux_only
def test_a_listener_replaces_what_a_crash_left_behind():
    import socket

    path = f"/tmp/np-stale-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with npipes.Listener(path) as listener, npipes.connect(path), listener.accept():
        pass
    assert not os.path.exists(path)


def test_threads_that_accepted_and_ended_take_no_client_with_them(listener):
    """The system cancels what a thread waits for when it ends; the address waits on."""
    for _ in range(5):
        accepting = [Outcome(listener.accept, timeout=0.02) for _ in range(3)]
        for outcome in accepting:
            with pytest.raises(npipes.PipeTimeoutError):
                outcome.get()
    for number in range(12):
        calling = Outcome(npipes.call, listener.address, b"%d" % number, timeout=TIMEOUT)
        conn = Outcome(listener.accept, timeout=TIMEOUT).get()
        with conn:
            conn.send_bytes(conn.recv_bytes(timeout=TIMEOUT))
            assert calling.get() == b"%d" % number


# ---- the standard library's arguments --------------------------------------


def test_family_and_backlog_are_taken_as_multiprocessing_has_them(pipe_name):
    family = "AF_PIPE" if WINDOWS else "AF_UNIX"
    with npipes.Listener(pipe_name, family, 5, None) as listener:
        with npipes.connect(pipe_name), listener.accept(timeout=TIMEOUT):
            pass
    for other in ("AF_INET", "AF_UNIX" if WINDOWS else "AF_PIPE", 1):
        with pytest.raises(ValueError, match=f"family must be None or '{family}'"):
            npipes.Listener(pipe_name, other)
    with pytest.raises(ValueError, match="backlog must be at least 1, not 0"):
        npipes.Listener(pipe_name, backlog=0)
