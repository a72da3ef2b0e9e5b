"""A thousand connections of one manager."""

import threading

import pytest
from support import WINDOWS, Log, echo

import npipes

COUNT = 1000


@pytest.fixture(autouse=True)
def enough_descriptors():
    """Both ends of every connection are in this process."""
    if WINDOWS:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * COUNT + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_thousand_connections_are_open_at_once(serve, manage, free, threads, pipe_name):
    answered = set()
    all_answered = threading.Event()

    def on_message(conn, data, cookie):
        answered.add(conn)
        assert data in (conn.custom_data, b"bye")
        if len(answered) == COUNT:
            all_answered.set()

    def on_connected(conn):
        conn.custom_data = b"%x" % id(conn)
        conn.write(conn.custom_data)

    log = Log()
    server = serve(on_message=echo, threads=threads)
    manager = manage(
        free_threading_events=free,
        threads=threads,
        on_message=on_message,
        on_connected=on_connected,
        **log.handlers("on_error", "on_disconnected"),
    )
    conns = {manager.connect(pipe_name, timeout=60) for _ in range(COUNT)}
    assert all_answered.wait(60), f"{len(answered)} were answered; {log.of('on_error')[:3]}"
    assert answered == conns == set(manager.connections)
    assert manager.stats.connections == COUNT and server.stats.connections == COUNT
    assert manager.broadcast(b"bye") == COUNT
    manager.stop()
    assert len(log.of("on_disconnected")) == COUNT
    assert not log.of("on_error")


def test_a_thousand_that_wait_for_a_server(serve, manage, pipe_name):
    log = Log()
    manager = manage(**log.handlers("on_connected", "on_error"))
    conns = {manager.connect(pipe_name, timeout=60) for _ in range(COUNT)}
    assert all(conn.is_opening for conn in conns)
    serve()
    assert {conn for (conn,) in log.wait("on_connected", COUNT, timeout=60)} == conns
    assert not log.of("on_error")


def test_a_thousand_attempts_that_fail(manage, pipe_name):
    log = Log()
    manager = manage(**log.handlers("on_connected", "on_error"))
    conns = {manager.connect(pipe_name, timeout=0.1) for _ in range(COUNT)}
    assert {conn for conn, _ in log.wait("on_error", COUNT, timeout=60)} == conns
    assert all(isinstance(conn.error, npipes.PipeNotFoundError) for conn in conns)
