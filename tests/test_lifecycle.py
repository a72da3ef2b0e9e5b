"""Starting, stopping, and starting again."""

import threading
import time

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
    finish,
    in_thread,
    interrupted,
    needs_names_of_ones_own,
    running,
    thread_count,
)

import npipes


def test_start_and_stop_are_idempotent(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_ready"))
    assert server.stop() is None
    for count in (1, 2):
        assert not server.is_running
        assert server.start() is None
        assert server.start() is None
        assert server.is_running
        assert server.stop() is None
        assert server.stop() is None
        assert len(log.of("on_ready")) == count


def test_with_starts_and_stops_and_lets_exceptions_through(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    with server as entered:
        assert entered is server and server.is_running
        server.start()
    assert not server.is_running
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert not server.is_running
    with server:
        server.stop()
        assert not server.is_running


def test_a_server_serves_again_after_each_start(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, on_message=echo)
    for i in range(10):
        with running(server), Client(server) as client:
            assert client.request(b"%d" % i) == b"%d" % i
            assert server.stats.connections_total == 1  # of this run


def test_parameters_count_from_the_next_start_on(pipe_name, new_name):
    server = npipes.Server(pipe_name, free_threading_events=True, on_message=echo)
    with server:
        first = server.address
        server.name = new_name()
        server.max_message_size = 3
        assert server.address == first
        with Client(server) as client:
            assert client.request(b"12345") == b"12345"
    server.on_error = lambda conn, error: None
    with server:
        assert server.address != first
        with Client(server) as client:
            assert client.request(b"123") == b"123"
            client.send(b"12345")
            assert client.has_ended()


def test_stop_delivers_everything_that_is_due(pipe_name, free):
    """Nobody is inside run() here: stop() itself brings marshalled events."""
    log = Log()
    server = npipes.Server(
        pipe_name,
        free_threading_events=free,
        **log.handlers("on_ready", "on_connected", "on_message", "on_disconnected", "on_error"),
    )
    server.start()
    clients = [Client(server) for _ in range(5)]
    for client in clients:
        client.send(b"x" * 100_000)
    assert eventually(lambda: server.stats.messages_in == 5)
    server.stop()
    names = log.names()
    assert names.count("on_ready") == 1
    for name in ("on_connected", "on_message", "on_disconnected"):
        assert names.count(name) == 5
    assert not log.of("on_error")
    assert server.connections == []
    assert all(conn.error is None and not conn.is_connected for (conn,) in log.of("on_disconnected"))
    for client in clients:
        assert client.has_ended()
        client.close()


def test_stop_sends_what_can_go_out_at_once(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_connected"))
    with running(server):
        client = Client(server)
        ((conn,),) = log.wait("on_connected")
        conn.write(b"goodbye")
    assert client.receive() == b"goodbye"
    assert client.has_ended()
    client.close()


def test_stop_does_not_wait_for_a_peer_that_does_not_read(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_connected", "on_error", "on_disconnected"))
    with running(server):
        client = Client(server)
        ((conn,),) = log.wait("on_connected")
        conn.write(bytes(20_000_000), cookie="big")
        begin = time.monotonic()
    assert time.monotonic() - begin < 4
    ((_, error),) = log.of("on_error")  # the cookie comes back
    assert isinstance(error, npipes.PipeError) and error.cookie == "big"
    client.close()


def test_stop_waits_for_a_handler_that_runs(pipe_name):
    inside, leave = threading.Event(), threading.Event()
    log = Log()

    def on_message(conn, data, cookie):
        inside.set()
        leave.wait(TIMEOUT)
        log.add("handled")

    server = npipes.Server(pipe_name, free_threading_events=True, on_message=on_message)
    server.start()
    with Client(server) as client:
        client.send(b"x")
        assert inside.wait(TIMEOUT)

        def stop():
            server.stop()
            log.add("stopped")

        threads = [in_thread(stop) for _ in range(3)]
        assert not eventually(lambda: log.entries, timeout=0.1)
        leave.set()
        finish(*threads)
    assert log.entries == [("handled",)] + [("stopped",)] * 3


def test_ctrl_c_ends_a_stop_that_waits_for_a_handler(pipe_name):
    inside, leave = threading.Event(), threading.Event()

    def on_message(conn, data, cookie):
        inside.set()
        leave.wait(TIMEOUT)

    server = npipes.Server(pipe_name, free_threading_events=True, on_message=on_message)
    server.start()
    with Client(server) as client:
        client.send(b"x")
        assert inside.wait(TIMEOUT)
        interrupted(server.stop)
        leave.set()
        server.stop()
        assert client.has_ended()


def test_many_threads_may_start_and_stop_at_once(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, on_message=echo)
    problems = []

    def work(seed):
        for i in range(20):
            try:
                if (seed + i) % 2:
                    server.start()
                else:
                    server.stop()
            except RuntimeError as error:  # "another thread is starting this server"
                if "starting" not in str(error):
                    problems.append(error)
            except BaseException as error:
                problems.append(error)

    finish(*[in_thread(work, seed) for seed in range(6)])
    server.stop()
    assert not problems
    with running(server), Client(server) as client:
        assert client.request(b"x") == b"x"


def test_clients_that_come_and_go_do_not_disturb_stop(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, threads=2, on_message=echo)
    end = threading.Event()

    def client():
        while not end.is_set():
            try:
                with Client(server) as client:
                    client.request(b"x")
            except (OSError, EOFError, AssertionError):
                pass

    threads = [in_thread(client) for _ in range(3)]
    try:
        for _ in range(10):
            with running(server):
                assert eventually(lambda: server.stats.messages_out >= 3)
    finally:
        end.set()
        finish(*threads)


def test_a_start_that_fails_leaves_nothing_behind(pipe_name, free):
    needs_names_of_ones_own()
    with npipes.Server(pipe_name) as first:
        server = npipes.Server(pipe_name, free_threading_events=free)
        before = thread_count()
        for _ in range(5):
            with pytest.raises(FileExistsError):
                server.start()
        assert not server.is_running
        assert thread_count() == before
        assert first.is_running
    with server:
        assert server.is_running


def test_a_name_is_needed():
    for call in (npipes.Server, lambda: npipes.Server(threads=2)):
        with pytest.raises(TypeError, match="name"):
            call()
    with pytest.raises(TypeError, match="unexpected"):
        npipes.Server("x", no_such_parameter=1)
