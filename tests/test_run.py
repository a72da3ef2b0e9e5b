"""The message loop: run, dispatch, quit, and their timeouts."""

import threading

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
    is_wine,
    seconds,
)

import npipes

# ---- run and its end ------------------------------------------------------


def test_run_returns_when_its_time_is_up(server):
    assert 0.1 <= seconds(server.run, timeout=0.1) < 5


def test_run_with_free_threading_events_only_waits(pipe_name):
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as server:
        with Client(server) as client:
            assert client.request(b"before") == b"before"
            assert 0.1 <= seconds(server.run, timeout=0.1) < 5
            assert client.request(b"after") == b"after"


def test_run_with_no_time_delivers_what_is_there(server):
    with Client(server) as client:
        client.send(b"x")
        assert eventually(lambda: server.run(timeout=0) or client.connection.poll())
        assert client.receive() == b"x"
    assert seconds(server.run, timeout=0) < 5


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_negative_timeout_is_a_value_error(server, timeout):
    with pytest.raises(ValueError, match="timeout"):
        server.run(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        server.dispatch(timeout=timeout)


@pytest.mark.parametrize("timeout", ["1", [], b"1"])
def test_a_timeout_that_is_no_number_is_a_type_error(server, timeout):
    with pytest.raises(TypeError):
        server.run(timeout=timeout)
    with pytest.raises(TypeError):
        server.dispatch(timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 1e300, float("inf"), 10**6, True])
def test_quit_ends_run_from_another_thread_whatever_the_timeout(pipe_name, free, timeout):
    inside = threading.Event()
    with npipes.Server(pipe_name, free_threading_events=free, on_message=echo) as server:
        server.on_message = lambda *args: inside.set()

        def quitter():
            with Client(server) as client:
                client.send(b"x")
                inside.wait(TIMEOUT)
                server.quit()

        thread = threading.Thread(target=quitter)
        thread.start()
        assert seconds(server.run, timeout=timeout) < TIMEOUT
        thread.join(TIMEOUT)
        assert server.is_running


def test_quit_before_run_ends_the_next_run_only(pipe_name, free):
    with npipes.Server(pipe_name, free_threading_events=free) as server:
        server.quit()
        server.quit()
        assert seconds(server.run) < 5
        assert 0.05 <= seconds(server.run, timeout=0.05) < 5


def test_quit_in_a_handler_ends_run_after_what_came_with_it(server):
    log = Log()

    def on_message(conn, data, cookie):
        log.add(data)
        conn.write(data)
        if data == b"quit":
            server.quit()

    server.on_message = on_message
    with Client(server) as client:
        client.send(b"quit")
        server.run(timeout=TIMEOUT)
        assert log.entries == [(b"quit",)]
        assert client.receive() == b"quit"
        client.send(b"more")
        server.run(timeout=0.05)
        assert client.receive() == b"more"


def test_quit_does_nothing_to_a_server_that_never_started(pipe_name):
    npipes.Server(pipe_name).quit()


def test_quit_from_a_run_before_does_not_end_a_run_after_a_restart(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    server.start()
    server.quit()
    server.stop()
    with server:
        assert seconds(server.run, timeout=0.05) >= 0.05


def test_stop_from_another_thread_ends_run(pipe_name, free):
    def stopper():
        with Client(server):
            log.wait("on_connected")
            server.stop()
            log.add("stopped")

    returned = False
    while not returned:
        log = Log()
        server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_connected", "on_disconnected"))
        with server:
            thread = threading.Thread(target=stopper)
            thread.start()
            try:
                server.run()
                returned = True
            except RuntimeError as error:  # too late: it was stopped before
                assert "not running" in str(error) and free
            thread.join(TIMEOUT)
    assert log.names() == ["on_connected", "on_disconnected", "stopped"]


# ---- when it may not be called --------------------------------------------


def test_run_and_dispatch_need_a_server_that_runs(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    for call in (server.run, server.dispatch):
        with pytest.raises(RuntimeError, match="not running"):
            call()
    with server:
        pass
    for call in (server.run, server.dispatch):
        with pytest.raises(RuntimeError, match="not running"):
            call()


def test_only_one_thread_may_be_inside(server):
    inside, leave = threading.Event(), threading.Event()

    def on_message(conn, data, cookie):
        inside.set()
        leave.wait(TIMEOUT)
        conn.write(data)

    server.on_message = on_message
    thread = threading.Thread(target=server.run)
    thread.start()
    with Client(server) as client:
        client.send(b"x")
        assert inside.wait(TIMEOUT)
        for call in (server.run, server.dispatch):
            with pytest.raises(RuntimeError, match="inside"):
                call()
        leave.set()
        assert client.receive() == b"x"
    server.quit()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    server.run(timeout=0)  # free again


def test_threads_may_take_turns(server):
    may_end = threading.Event()
    if not is_wine():  # which loses the message that comes while the thread of the read ends
        may_end.set()

    def turn(left):
        server.run()
        left.set()
        may_end.wait(TIMEOUT)

    threads = []
    with Client(server) as client:
        for i in range(10):
            left = threading.Event()
            threads.append(threading.Thread(target=turn, args=(left,)))
            threads[-1].start()
            assert client.request(b"%d" % i) == b"%d" % i
            server.quit()
            assert left.wait(TIMEOUT)
    may_end.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


# ---- dispatch -------------------------------------------------------------


def test_dispatch_delivers_what_waits_and_tells_how_much(pipe_name):
    log = Log()
    names = ("on_ready", "on_connected", "on_message")
    with npipes.Server(pipe_name, **log.handlers(*names)) as server:
        with Client(server) as client:
            for i in range(50):
                client.send(b"%d" % i)
            assert eventually(lambda: server.stats.queued_events == 52)
            assert not log.entries, "events came outside dispatch()"
            assert server.dispatch() == 52
            assert server.stats.queued_events == 0
            assert [data for _, data, _ in log.of("on_message")] == [b"%d" % i for i in range(50)]
            assert server.dispatch() == 0


def test_dispatch_with_a_timeout_waits_for_something(server):
    while server.dispatch(timeout=0.05):
        pass
    assert 0.1 <= seconds(server.dispatch, timeout=0.1) < 5
    with Client(server) as client:
        assert server.dispatch(timeout=TIMEOUT) >= 1  # connected
        client.send(b"x")
        assert server.dispatch(timeout=None) >= 1
        assert client.receive() == b"x"


def test_replies_of_dispatch_go_out_at_its_end(server):
    with Client(server) as client:
        client.send(b"x")
        assert eventually(lambda: server.stats.messages_in == 1)
        assert not client.connection.poll()
        server.dispatch()
        assert client.receive() == b"x"


def test_stats_and_the_io_go_on_while_nobody_is_inside(server):
    """Clients are accepted and their messages taken by the worker."""
    clients = [Client(server) for _ in range(5)]
    for client in clients:
        client.send(b"x" * 100_000)
    assert eventually(lambda: server.stats.messages_in == 5)
    assert server.stats.connections == 5
    for client in clients:
        assert eventually(lambda c=client: server.run(timeout=0) or c.connection.poll())
        assert len(client.receive()) == 100_000
    assert eventually(lambda: server.stats.messages_out == 5)
    for client in clients:
        client.close()


def test_a_client_that_left_long_ago_ended_orderly(pipe_name):
    """Events that wait longer than the 5 s a close lingers are no failure of the peer's."""
    log = Log()
    names = ("on_message", "on_disconnected", "on_error")
    with npipes.Server(pipe_name, **log.handlers(*names)) as server:
        with Client(server) as client:
            client.send(b"goodbye")
        assert not eventually(lambda: server.stats.errors, timeout=5.5)
        assert eventually(lambda: server.dispatch() is None or log.of("on_disconnected"))
        assert log.names() == ["on_message", "on_disconnected"]
        ((conn,),) = log.of("on_disconnected")
        assert conn.error is None
