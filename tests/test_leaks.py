"""What is over is let go: descriptors, threads, messages, cookies, connections."""

import weakref

import pytest
from support import (
    Client,
    Log,
    descriptor_count,
    echo,
    eventually,
    let_go,
    linux_only,
    running,
    thread_count,
)

import npipes


@linux_only
def test_fifty_starts_and_stops_leave_no_descriptor_and_no_thread(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, threads=3, on_message=echo)

    def cycle():
        with running(server), Client(server) as client:
            assert client.request(b"x") == b"x"

    cycle()
    descriptors, threads = descriptor_count(), thread_count()
    for _ in range(50):
        cycle()
    assert descriptor_count() == descriptors
    # A thread that was joined may take a moment to leave the system's list.
    assert eventually(lambda: thread_count() <= threads)


class Cookie:
    pass


@pytest.mark.parametrize("size", [10, 5000, 100_000])
def test_messages_cookies_and_connections_are_let_go(serve, free, size):
    log = Log()
    cookies, conns = weakref.WeakSet(), weakref.WeakSet()

    def on_connected(conn):
        conns.add(conn)

    def on_message(conn, data, cookie):
        cookie = Cookie()
        cookies.add(cookie)
        conn.write(data, cookie)

    server = serve(
        free_threading_events=free,
        on_connected=on_connected,
        on_message=on_message,
        on_sent=lambda conn, cookie: log.add("on_sent"),
        on_disconnected=lambda conn: log.add("on_disconnected"),
    )
    with Client(server) as client:
        for _ in range(20):
            assert client.request(bytes(size)) == bytes(size)
        log.wait("on_sent", 20)
        assert let_go(lambda: not cookies)
    log.wait("on_disconnected")
    assert eventually(lambda: not conns)


def test_cookies_of_writes_that_fail_are_let_go(serve, free):
    log = Log()
    cookies = weakref.WeakSet()
    server = serve(
        free_threading_events=free,
        on_disconnected=lambda conn: log.add("end"),
        on_connected=lambda conn: log.add("conn", conn),
        on_error=lambda *args: None,
    )
    with Client(server):
        ((conn,),) = log.wait("conn")
        for _ in range(10):
            cookie = Cookie()
            cookies.add(cookie)
            conn.write(bytes(1_000_000), cookie)
        del cookie
    log.wait("end")
    assert let_go(lambda: not cookies)
    cookie = Cookie()
    cookies.add(cookie)
    with pytest.raises(npipes.PipeClosedError):
        conn.write(b"x", cookie)
    del cookie
    assert let_go(lambda: not cookies)


def test_large_payloads_are_let_go_once_they_are_sent(serve, connect, free):
    """A bytes object that write() holds instead of copying has its count back."""
    import sys

    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    data = b"x" * 3_000_000
    before = sys.getrefcount(data)
    for count in range(1, 4):
        conn.write(data)
        assert len(client.receive()) == len(data)
        log.wait("on_sent", count)
        assert let_go(lambda: sys.getrefcount(data) == before)
    assert server.broadcast(data) == 1
    assert len(client.receive()) == len(data)
    assert let_go(lambda: sys.getrefcount(data) == before)
