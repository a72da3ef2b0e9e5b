"""continuous_read=False: a message comes for each read() only."""

import threading

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
)

import npipes

# What a socket or pipe may take before the engine's own queue begins to grow.
KERNEL = 4 << 20


def test_without_continuous_read_messages_come_when_they_are_asked_for(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, continuous_read=False, **log.handlers("on_connected", "on_message"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    for i in range(6):
        client.send(b"%d" % i)
    assert not eventually(lambda: log.of("on_message"), timeout=0.1)
    conn.read("first")
    log.wait("on_message")
    assert not eventually(lambda: len(log.of("on_message")) > 1, timeout=0.1)
    conn.read(cookie="second")
    conn.read()
    log.wait("on_message", 3)
    for _ in range(4):
        conn.read("later")  # one more than there are messages
    log.wait("on_message", 6)
    client.send(b"6")
    assert [(data, cookie) for _, data, cookie in log.wait("on_message", 7)] == [
        (b"0", "first"),
        (b"1", "second"),
        (b"2", None),
        (b"3", "later"),
        (b"4", "later"),
        (b"5", "later"),
        (b"6", "later"),
    ]


def test_a_handler_reads_the_next_message_when_it_is_done_with_one(serve, connect, free):
    log = Log()

    def on_message(conn, data, cookie):
        log.add("on_message", data, cookie)
        conn.read(cookie + 1)

    server = serve(
        free_threading_events=free, continuous_read=False, on_message=on_message, on_connected=lambda conn: conn.read(0)
    )
    client = connect(server)
    for i in range(100):
        client.send(b"%d" % i * (i * 50 + 1))
    log.wait("on_message", 100)
    assert log.entries == [("on_message", b"%d" % i * (i * 50 + 1), i) for i in range(100)]


def test_what_is_not_asked_for_is_not_taken_from_the_peer(serve, free):
    log = Log()
    server = serve(free_threading_events=free, continuous_read=False, **log.handlers("on_connected"))
    client = Client(server)
    sent = [0]

    def flood():
        try:
            while True:
                client.send(bytes(50_000))
                sent[0] += 1
        except OSError:
            pass

    thread = threading.Thread(target=flood)
    thread.start()
    ((conn,),) = log.wait("on_connected")
    before = [-1]

    def stalled():
        now = sent[0]
        same, before[0] = now == before[0], now
        return same and not eventually(lambda: sent[0] != now, timeout=0.1)

    assert eventually(stalled)
    assert sent[0] * 50_000 < 2 * KERNEL
    assert server.stats.bytes_in < 1 << 20
    server.stop()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    client.close()


def test_messages_of_a_client_that_left_can_still_be_read(serve, free):
    log = Log()
    server = serve(
        free_threading_events=free,
        continuous_read=False,
        **log.handlers("on_connected", "on_message", "on_disconnected", "on_error"),
    )
    with Client(server) as client:
        ((conn,),) = log.wait("on_connected")
        for i in range(5):
            client.send(b"%d" % i)
        conn.read()
        log.wait("on_message")
    for i in range(2, 6):
        assert not log.of("on_disconnected")
        conn.read(i)
        log.wait("on_message", i)
    assert [data for _, data, _ in log.of("on_message")] == [b"0", b"1", b"2", b"3", b"4"]
    log.wait("on_disconnected")
    assert conn.error is None and not log.of("on_error")
    with pytest.raises(npipes.PipeClosedError) as info:
        conn.read()
    assert info.value.operation == "read"


def test_an_orderly_end_while_a_read_waits_is_no_error(serve, free):
    log = Log()
    server = serve(
        free_threading_events=free,
        continuous_read=False,
        on_connected=lambda conn: (conn.read("unanswered"), log.add("on_connected")),
        **log.handlers("on_message", "on_disconnected", "on_error"),
    )
    with Client(server):
        log.wait("on_connected")
    ((conn,),) = log.wait("on_disconnected")
    assert conn.error is None
    assert not log.of("on_error") and not log.of("on_message")


def test_read_is_refused_while_the_server_reads_by_itself(serve, connect):
    log = Log()
    server = serve(on_message=echo, **log.handlers("on_connected"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    with pytest.raises(RuntimeError, match="continuous_read"):
        conn.read()
    assert client.request(b"x") == b"x"
