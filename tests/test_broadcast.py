"""One message to every client."""

import sys
import threading
import time
import weakref

import pytest
from support import TIMEOUT, Client, Log, echo, eventually, let_go

import npipes


def test_broadcast_reaches_every_client_and_tells_how_many(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_disconnected"))
    assert server.broadcast(b"nobody") == 0
    clients = [connect(server) for _ in range(10)]
    log.wait("on_connected", 10)
    for size in (1, 1000, 100_000, 2_000_000):
        assert server.broadcast(b"x" * size) == 10
        for client in clients:
            assert client.receive() == b"x" * size
    clients.pop().close()
    log.wait("on_disconnected")
    assert server.broadcast(b"nine") == 9
    assert [client.receive() for client in clients] == [b"nine"] * 9


def test_broadcast_needs_a_server_that_runs_and_bytes(pipe_name, serve):
    assert npipes.Server(pipe_name).broadcast(b"x") == 0
    server = serve()
    for data in ("text", None, 1):
        with pytest.raises(TypeError):
            server.broadcast(data)
    with pytest.raises(BufferError):
        server.broadcast(memoryview(b"abcd")[::2])
    server.stop()
    assert server.broadcast(b"x") == 0


def test_broadcast_of_nothing_sends_nothing(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    client = connect(server)
    log.wait("on_connected")
    assert server.broadcast(b"", cookie="nothing") == 0
    assert server.broadcast(b"x", cookie="something") == 1
    assert client.receive() == b"x"
    log.wait("on_sent")
    assert [cookie for _, cookie in log.of("on_sent")] == ["something"]


class Cookie:
    pass


@pytest.mark.parametrize("size", [5, 200_000])
def test_every_client_gives_the_cookie_back(serve, connect, free, size):
    log = Log()
    server = serve(free_threading_events=free, threads=3, **log.handlers("on_connected", "on_sent"))
    clients = [connect(server) for _ in range(6)]
    conns = {conn for (conn,) in log.wait("on_connected", 6)}
    cookie = Cookie()
    there = weakref.ref(cookie)
    assert server.broadcast(bytes(size), cookie) == 6
    for client in clients:
        client.receive()
    sent = log.wait("on_sent", 6)
    assert {conn for conn, _ in sent} == conns and len(sent) == 6
    assert all(c is cookie for _, c in sent)
    del sent, cookie
    log.entries.clear()
    assert let_go(lambda: there() is None)


def test_a_handler_may_broadcast(serve, connect, free):
    server = serve(free_threading_events=free, threads=2, on_message=lambda conn, data, cookie: conn.server.broadcast(data))
    clients = [connect(server) for _ in range(5)]
    assert eventually(lambda: len(server.connections) == 5)
    clients[0].send(b"to all")
    assert [client.receive() for client in clients] == [b"to all"] * 5


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_happens_to_the_memory_after_broadcast_does_not_matter(serve, connect, kind):
    log = Log()
    server = serve(**log.handlers("on_connected"))
    client = connect(server)
    log.wait("on_connected")
    data = bytearray(b"a" * 3_000_000)
    server.broadcast(kind(data))
    data[:] = b"b" * len(data)
    assert client.receive() == b"a" * len(data)


def test_a_payload_is_held_once_for_all_and_let_go(serve, connect, free):
    """Hundreds of clients that do not read share one copy."""
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    clients = [connect(server) for _ in range(20)]
    log.wait("on_connected", 20)
    data = b"x" * 5_000_000
    before = sys.getrefcount(data)
    assert server.broadcast(data) == 20
    assert sys.getrefcount(data) == before + 1, "not one shared reference"
    assert server.stats.queued_bytes > 20 * 1_000_000
    for client in clients:
        assert client.receive() == data
    log.wait("on_sent", 20)
    assert let_go(lambda: sys.getrefcount(data) == before)


def test_a_client_that_does_not_read_delays_nobody(serve, connect, free):
    log = Log()
    server = serve(
        free_threading_events=free,
        max_pending_bytes=1_000_000,
        max_message_size=1_000_000,
        **log.handlers("on_connected", "on_error"),
    )
    slow, fast = connect(server), connect(server)
    (first,), (second,) = log.wait("on_connected", 2)
    data = bytes(500_000)
    counts = []
    begin = time.monotonic()
    while 1 not in counts and len(counts) < 100:
        counts.append(server.broadcast(data, cookie=len(counts)))
        assert len(fast.receive()) == len(data)
    assert counts == [2] * (len(counts) - 1) + [1]
    assert time.monotonic() - begin < TIMEOUT
    ((conn, error),) = log.wait("on_error")  # the slow one could not take it
    assert conn.pending_bytes > 0 and conn.is_connected
    assert type(error) is npipes.QueueFullError
    assert (error.operation, error.cookie) == ("broadcast", len(counts) - 1)
    assert conn.error is None
    for _ in range(len(counts) - 1):
        assert len(slow.receive()) == len(data)
    assert eventually(lambda: conn.pending_bytes == 0)
    assert server.broadcast(b"both again") == 2
    assert slow.receive() == fast.receive() == b"both again"


def test_dead_clients_delay_nobody(serve, connect, free):
    log = Log()
    server = serve(
        free_threading_events=free, on_error=lambda conn, error: None, **log.handlers("on_connected", "on_disconnected")
    )
    alive = connect(server)
    for count in range(10):
        with Client(server):
            log.wait("on_connected", count + 2)
        server.broadcast(b"%d" % count)  # to one that may be gone or not
        assert alive.receive() == b"%d" % count
    log.wait("on_disconnected", 10)
    assert server.broadcast(b"one") == 1


def test_broadcasts_of_many_threads_arrive_whole(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, threads=2, **log.handlers("on_connected"))
    clients = [connect(server) for _ in range(4)]
    log.wait("on_connected", 4)
    counts = []

    def work(letter):
        for i in range(25):
            counts.append(server.broadcast(b"%c%d" % (letter, i) + bytes([letter]) * 3000))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in b"abcd"]
    for thread in threads:
        thread.start()
    for client in clients:
        got = client.receive_many(100)
        for letter in b"abcd":
            own = [m for m in got if m[0] == letter]
            assert own == [b"%c%d" % (letter, i) + bytes([letter]) * 3000 for i in range(25)]
    for thread in threads:
        thread.join(TIMEOUT)
    assert counts == [4] * 100


def test_order_holds_between_writes_and_broadcasts(serve, connect, free):
    def on_message(conn, data, cookie):
        for i in range(20):
            conn.write(b"write %d" % i)
            conn.server.broadcast(b"broadcast %d" % i)

    client = connect(serve(free_threading_events=free, on_message=on_message))
    client.send(b"go")
    expected = [b"%s %d" % (kind, i) for i in range(20) for kind in (b"write", b"broadcast")]
    assert client.receive_many(40) == expected


def test_connections_is_a_snapshot(serve, connect):
    log = Log()
    server = serve(on_message=echo, **log.handlers("on_connected", "on_disconnected"))
    assert server.connections == []
    first = connect(server)
    ((conn,),) = log.wait("on_connected")
    before = server.connections
    with Client(server):
        log.wait("on_connected", 2)
        assert before == [conn]
        assert len(server.connections) == 2 and conn in server.connections
    log.wait("on_disconnected")
    assert eventually(lambda: server.connections == [conn])
    before.clear()
    assert server.connections == [conn]
    first.close()
