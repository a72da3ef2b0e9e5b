"""Every queue has a bound, and what happens at it."""

import threading

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
    frame,
    linux_only,
    raw_client,
    reply,
)

import npipes

# What a socket or pipe may take before the engine's own queue begins to grow.
KERNEL = 4 << 20


# ---- messages -------------------------------------------------------------


def test_a_message_of_max_message_size_comes_and_one_byte_more_ends_its_connection(serve, free):
    log = Log()
    server = serve(
        free_threading_events=free, max_message_size=1000, on_message=echo, **log.handlers("on_error", "on_disconnected")
    )
    with Client(server) as good, Client(server) as bad:
        assert bad.request(b"x" * 1000) == b"x" * 1000
        bad.send(b"x" * 1001)
        assert bad.has_ended()
        ((conn,),) = log.wait("on_disconnected")
        ((of, error),) = log.of("on_error")
        assert of is conn and conn.error is error
        assert isinstance(error, npipes.MessageTooLargeError)
        assert isinstance(error, npipes.PipeError) and isinstance(error, OSError)
        assert (error.operation, error.cookie) == ("read", None)
        assert "1001" in str(error) and "1000" in str(error)
        assert good.request(b"still here") == b"still here"


def test_the_size_of_what_is_sent_has_no_such_limit(serve, connect):
    client = connect(serve(max_message_size=10, on_message=lambda conn, data, cookie: conn.write(bytes(100_000))))
    assert len(client.request(b"go")) == 100_000


# ---- writes ---------------------------------------------------------------


def test_a_write_beyond_max_pending_bytes_raises_and_leaves_the_rest_alone(serve, connect, free):
    log = Log()
    server = serve(
        free_threading_events=free,
        max_pending_bytes=2_000_000,
        max_message_size=1_000_000,
        **log.handlers("on_connected", "on_sent", "on_error"),
    )
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    accepted = 0
    with pytest.raises(npipes.QueueFullError) as info:
        for accepted in range(KERNEL // 100_000 + 30):
            conn.write(bytes(100_000), cookie=accepted)
    assert isinstance(info.value, npipes.PipeError)
    assert info.value.operation == "write"
    assert "100000" in str(info.value) and "2000000" in str(info.value)
    assert conn.is_connected
    assert conn.pending_bytes <= 2_000_000
    for _ in range(accepted):
        assert len(client.receive()) == 100_000
    assert [cookie for _, cookie in log.wait("on_sent", accepted)] == list(range(accepted))
    conn.write(b"room again")
    assert client.receive() == b"room again"
    assert not log.of("on_error")


def test_one_message_up_to_max_message_size_fits_an_empty_queue(serve, connect):
    log = Log()
    server = serve(max_pending_bytes=1000, max_message_size=8_000_000, **log.handlers("on_connected", "on_sent"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    with pytest.raises(npipes.QueueFullError):
        conn.write(bytes(8_000_001))
    conn.write(bytes(8_000_000))
    with pytest.raises(npipes.QueueFullError):
        conn.write(b"x")
    assert len(client.receive()) == 8_000_000
    log.wait("on_sent")
    conn.write(b"y" * 999)
    assert client.receive() == b"y" * 999


def test_a_handler_gets_the_error_of_its_write(serve, connect, free):
    log = Log()

    def on_message(conn, data, cookie):
        try:
            while True:
                conn.write(bytes(100_000))
        except npipes.QueueFullError:
            log.add("full", conn.pending_bytes)

    server = serve(free_threading_events=free, max_pending_bytes=1_000_000, max_message_size=100_000, on_message=on_message)
    client = connect(server)
    client.send(b"go")
    ((pending,),) = log.wait("full")
    assert 900_000 <= pending <= 1_000_000


def test_a_peer_that_sends_and_never_reads_stalls_itself_only(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, write_high_water=100_000, on_message=reply, **log.handlers("on_connected"))
    bad, good = connect(server), connect(server)
    sent = [0]

    def flood():
        try:
            while True:
                bad.send(bytes(50_000))
                sent[0] += 1
        except (OSError, EOFError):
            pass

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        log.wait("on_connected", 2)

        def stalled():
            before = sent[0]
            return not eventually(lambda: sent[0] != before, timeout=0.1)

        def pending():
            return max(conn.pending_bytes for conn in server.connections)

        assert eventually(lambda: stalled() and pending() > 100_000)
        assert pending() < 1_000_000
        assert sent[0] * 50_000 < 4 * KERNEL
        for i in range(20):
            assert good.request(b"%d" % i) == b"%d" % i
        # It goes on when it reads.
        before = sent[0]
        for _ in range(before):
            assert len(bad.receive()) == 50_000
        assert eventually(lambda: sent[0] > before)
    finally:
        server.stop()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_without_a_high_water_mark_reading_never_pauses(serve, free):
    log = Log()
    server = serve(free_threading_events=free, write_high_water=None, on_message=echo, **log.handlers("on_drained"))
    with Client(server) as client:
        for _ in range(300):
            client.send(bytes(50_000))
        assert eventually(lambda: server.stats.messages_in == 300)
        for _ in range(300):
            assert len(client.receive()) == 50_000
    assert not log.of("on_drained")


@linux_only
def test_pausing_and_vanishing_at_once_is_seen(serve):
    """A peer that stops reading and then dies while its connection is paused."""
    log = Log()
    server = serve(write_high_water=10_000, **log.handlers("on_connected", "on_disconnected", "on_error"))
    with raw_client(server):
        ((conn,),) = log.wait("on_connected")
        while conn.pending_bytes < 1_000_000:
            conn.write(bytes(100_000))
    log.wait("on_disconnected")
    assert isinstance(conn.error, npipes.PipeClosedError)
    assert conn.pending_bytes == 0


# ---- undelivered events ---------------------------------------------------


def test_undelivered_events_are_bounded_and_all_come_in_the_end(pipe_name):
    log = Log()
    server = npipes.Server(pipe_name, **log.handlers("on_message"))
    count = 200
    with server:

        def flood():
            with Client(server) as client:
                for i in range(count):
                    client.send(b"%06d" % i + bytes(100_000))
                client.receive()

        thread = threading.Thread(target=flood)
        thread.start()
        assert eventually(lambda: server.stats.queued_events >= 10)
        before = [0]

        def stalled():
            now = server.stats.messages_in
            same, before[0] = now == before[0], now
            return same and not eventually(lambda: server.stats.messages_in != now, timeout=0.1)

        assert eventually(stalled)
        assert server.stats.bytes_in < 3 << 20, "reading did not pause"
        while len(log.of("on_message")) < count:
            assert server.dispatch(timeout=TIMEOUT)
        assert [data[:6] for _, data, _ in log.of("on_message")] == [b"%06d" % i for i in range(count)]
        server.connections[0].write(b"enough")
        thread.join(TIMEOUT)
        assert not thread.is_alive()


@linux_only
def test_undelivered_events_are_bounded_however_small_they_are(pipe_name):
    log = Log()
    with npipes.Server(pipe_name, **log.handlers("on_message", "on_error")) as server:
        with raw_client(server) as client:
            client.setblocking(False)
            flood = frame(b"x") * 1000
            at = 0

            def stalled():
                nonlocal at
                try:
                    while True:
                        at += client.send(flood[at % len(flood) :])
                except BlockingIOError:
                    before = server.stats.messages_in
                    return not eventually(lambda: server.stats.messages_in != before, timeout=0.1)

            assert eventually(lambda: stalled() and server.stats.queued_events > 1000)
            assert server.stats.queued_events < 100_000, "an event counts more than its bytes"
            while len(log.of("on_message")) < at // 5:
                assert server.dispatch(timeout=TIMEOUT)


def test_a_client_whose_events_wait_pauses_alone(pipe_name):
    """Others are still served from the same backlog."""
    log = Log()
    server = npipes.Server(pipe_name, **log.handlers("on_message"))
    with server, Client(server) as loud, Client(server) as quiet:
        done = threading.Event()

        def flood():
            for _ in range(60):
                loud.send(bytes(100_000))
            done.set()

        thread = threading.Thread(target=flood)
        thread.start()
        assert eventually(lambda: server.stats.bytes_in > 1 << 20)
        quiet.send(b"quiet")
        assert eventually(lambda: server.dispatch() or (b"quiet" in [d for _, d, _ in log.of("on_message")]))
        while not done.is_set() or server.stats.queued_events:
            server.dispatch(timeout=0.05)
        thread.join(TIMEOUT)
