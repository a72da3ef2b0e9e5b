"""Every queue has a bound, and what happens at it."""

import threading

import pytest
from support import TIMEOUT, Client, Log, echo, eventually, linux_only, raw_client, reply, running

import npipes

# What a socket or pipe may take before the engine's own queue begins to grow.
KERNEL = 4 << 20


# ---- parameters ----------------------------------------------------------

NUMBERS = {
    "threads": (1, 1, 64, False),
    "message_buffer_size": (131072, 1, 2**31 - 1, False),
    "max_instances": (None, 1, 2**31 - 1, True),
    "listeners": (8, 1, 255, False),
    "max_message_size": (64 << 20, 1, 2**63 - 1, False),
    "write_high_water": (1 << 20, 1, 2**63 - 1, True),
    "max_pending_bytes": (64 << 20, 1, 2**63 - 1, False),
    "kernel_buffer_size": (None, 1, 2**31 - 1, True),
    "spin_us": (0, 0, 1_000_000, False),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_a_default_and_a_range(pipe_name, name):
    default, least, most, optional = NUMBERS[name]
    server = npipes.Server(pipe_name)
    assert getattr(server, name) == default
    for value in (least, most):
        setattr(server, name, value)
        assert getattr(server, name) == value
        assert getattr(npipes.Server(pipe_name, **{name: value}), name) == value
    for value in (least - 1, most + 1, -1, 2**64, -(2**70)):
        with pytest.raises(ValueError, match=rf"{name}.*{least}.*{most}.*{value}"):
            setattr(server, name, value)
        assert getattr(server, name) == most
        with pytest.raises(ValueError, match=name):
            npipes.Server(pipe_name, **{name: value})
    for value in ("1", 1.5, [], *(() if optional else (None,))):
        with pytest.raises(TypeError, match=name):
            setattr(server, name, value)
    if optional:
        setattr(server, name, None)
        assert getattr(server, name) is None
    with pytest.raises(AttributeError):
        delattr(server, name)


@pytest.mark.parametrize(("name", "default"), [("free_threading_events", False),
                                               ("continuous_read", True)])
def test_flags_have_defaults(pipe_name, name, default):
    server = npipes.Server(pipe_name)
    assert getattr(server, name) is default
    setattr(server, name, not default)
    assert getattr(server, name) is not default
    assert getattr(npipes.Server(pipe_name, **{name: not default}), name) is not default


def test_modes_and_keys_are_checked(pipe_name):
    server = npipes.Server(pipe_name)
    assert (server.mode, server.access, server.authkey) == ("message", "user", None)
    for mode in ("bytes", "", None, 1):
        with pytest.raises(ValueError, match="message.*byte"):
            server.mode = mode
    server.authkey = None
    with pytest.raises(NotImplementedError, match="authkey"):
        server.authkey = b"secret"
    with pytest.raises(NotImplementedError, match="authkey"):
        npipes.Server(pipe_name, authkey=b"secret")


# ---- messages ------------------------------------------------------------


def test_a_message_of_max_message_size_comes_and_one_byte_more_ends_its_connection(serve, free):
    log = Log()
    server = serve(free_threading_events=free, max_message_size=1000, on_message=echo,
                   **log.handlers("on_error", "on_disconnected"))
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
    client = connect(serve(max_message_size=10,
                           on_message=lambda conn, data, cookie: conn.write(bytes(100_000))))
    assert len(client.request(b"go")) == 100_000


# ---- writes --------------------------------------------------------------


def test_a_write_beyond_max_pending_bytes_raises_and_leaves_the_rest_alone(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, max_pending_bytes=2_000_000,
                   max_message_size=1_000_000,
                   **log.handlers("on_connected", "on_sent", "on_error"))
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
    server = serve(max_pending_bytes=1000, max_message_size=8_000_000,
                   **log.handlers("on_connected", "on_sent"))
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

    server = serve(free_threading_events=free, max_pending_bytes=1_000_000,
                   max_message_size=100_000, on_message=on_message)
    client = connect(server)
    client.send(b"go")
    ((pending,),) = log.wait("full")
    assert 900_000 <= pending <= 1_000_000


def test_a_peer_that_sends_and_never_reads_stalls_itself_only(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, write_high_water=100_000, on_message=reply,
                   **log.handlers("on_connected"))
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
        ((conn,), _) = log.wait("on_connected", 2)

        def stalled():
            before = sent[0]
            return not eventually(lambda: sent[0] != before, timeout=0.1)

        assert eventually(stalled)
        assert sent[0] * 50_000 < 4 * KERNEL
        stuck = max(server.connections, key=lambda c: c.pending_bytes)
        assert 100_000 < stuck.pending_bytes < 1_000_000
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
    server = serve(free_threading_events=free, write_high_water=None, on_message=echo,
                   **log.handlers("on_drained"))
    with Client(server) as client:
        for _ in range(300):
            client.send(bytes(50_000))
        assert eventually(lambda: server.stats.messages_in == 300)
        for _ in range(300):
            assert len(client.receive()) == 50_000
    assert not log.of("on_drained")


# ---- undelivered events --------------------------------------------------


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
        assert [data[:6] for _, data, _ in log.of("on_message")] == [
            b"%06d" % i for i in range(count)
        ]
        server.connections[0].write(b"enough")
        thread.join(TIMEOUT)
        assert not thread.is_alive()


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
        assert eventually(lambda: server.dispatch() or (b"quiet" in [d for _, d, _ in
                                                                      log.of("on_message")]))
        while not done.is_set() or server.stats.queued_events:
            server.dispatch(timeout=0.05)
        thread.join(TIMEOUT)


# ---- instances -----------------------------------------------------------


def test_of_a_pool_of_four_the_fifth_client_waits_until_one_leaves(serve, free):
    log = Log()
    server = serve(free_threading_events=free, max_instances=4, on_message=echo,
                   **log.handlers("on_connected", "on_disconnected"))
    clients = [Client(server) for _ in range(4)]
    for i, client in enumerate(clients):
        assert client.request(b"%d" % i) == b"%d" % i
    results = []

    def wait_for_a_place(number):
        with Client(server) as client:
            results.append(client.request(b"waiter %d" % number))

    threads = [threading.Thread(target=wait_for_a_place, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    assert not eventually(lambda: len(log.of("on_connected")) > 4, timeout=0.2)
    assert server.stats.connections == 4
    clients.pop().close()       # one place, which the three take in turn
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert sorted(results) == [b"waiter 0", b"waiter 1", b"waiter 2"]
    assert server.stats.connections_total == 7
    for i, client in enumerate(clients):
        assert client.request(b"%d" % i) == b"%d" % i
        client.close()
    log.wait("on_disconnected", 7)


def test_a_place_is_free_again_whoever_ends_the_connection(serve):
    server = serve(max_instances=1, listeners=4, on_message=echo, max_message_size=100,
                   on_error=lambda conn, error: None)
    for _ in range(5):
        with Client(server) as client:      # the client does
            assert client.request(b"x") == b"x"
        with Client(server) as client:      # the server does
            assert client.request(b"y") == b"y"
            for conn in server.connections:
                conn.close()
            assert client.has_ended()
        with Client(server) as client:      # an error does
            client.send(bytes(101))
            assert client.has_ended()
    assert server.stats.connections_total == 15


@pytest.mark.parametrize("listeners", [1, 2, 255])
def test_a_burst_of_clients_finds_a_place_with_any_number_of_listeners(serve, listeners):
    server = serve(listeners=listeners, on_message=echo)
    results = []

    def one():
        with Client(server) as client:
            results.append(client.request(b"x"))

    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert results == [b"x"] * 30


# ---- reads one by one ----------------------------------------------------


def test_without_continuous_read_messages_come_when_they_are_asked_for(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, continuous_read=False,
                   **log.handlers("on_connected", "on_message"))
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
        conn.read("later")      # one more than there are messages
    log.wait("on_message", 6)
    client.send(b"6")
    assert [(data, cookie) for _, data, cookie in log.wait("on_message", 7)] == [
        (b"0", "first"), (b"1", "second"), (b"2", None), (b"3", "later"), (b"4", "later"),
        (b"5", "later"), (b"6", "later")]


def test_a_handler_reads_the_next_message_when_it_is_done_with_one(serve, connect, free):
    log = Log()

    def on_message(conn, data, cookie):
        log.add("on_message", data, cookie)
        conn.read(cookie + 1)

    server = serve(free_threading_events=free, continuous_read=False, on_message=on_message,
                   on_connected=lambda conn: conn.read(0))
    client = connect(server)
    for i in range(100):
        client.send(b"%d" % i * (i * 50 + 1))
    log.wait("on_message", 100)
    assert log.entries == [("on_message", b"%d" % i * (i * 50 + 1), i) for i in range(100)]


def test_what_is_not_asked_for_is_not_taken_from_the_peer(serve, free):
    log = Log()
    server = serve(free_threading_events=free, continuous_read=False,
                   **log.handlers("on_connected"))
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
    server = serve(free_threading_events=free, continuous_read=False,
                   **log.handlers("on_connected", "on_message", "on_disconnected", "on_error"))
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
    server = serve(free_threading_events=free, continuous_read=False,
                   on_connected=lambda conn: (conn.read("unanswered"), log.add("on_connected")),
                   **log.handlers("on_message", "on_disconnected", "on_error"))
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


@linux_only
def test_pausing_and_vanishing_at_once_is_seen(serve):
    """A peer that stops reading and then dies while its connection is paused."""
    log = Log()
    server = serve(write_high_water=10_000, **log.handlers("on_connected", "on_disconnected",
                                                           "on_error"))
    with raw_client(server):
        ((conn,),) = log.wait("on_connected")
        while conn.pending_bytes < 1_000_000:
            conn.write(bytes(100_000))
    log.wait("on_disconnected")
    assert isinstance(conn.error, npipes.PipeClosedError)
    assert conn.pending_bytes == 0


def test_stats_count_payloads(serve, free):
    log = Log()
    server = serve(free_threading_events=free, on_message=echo,
                   **log.handlers("on_sent", "on_disconnected"))
    assert isinstance(server.stats, npipes.Stats)
    assert server.stats[:7] == (0,) * 7
    with Client(server) as client:
        for size in (1, 1000, 100_000):
            client.request(bytes(size))
        log.wait("on_sent", 3)
        stats = server.stats
        assert (stats.connections, stats.connections_total) == (1, 1)
        assert (stats.messages_in, stats.messages_out) == (3, 3)
        assert (stats.bytes_in, stats.bytes_out) == (101_001, 101_001)
        assert (stats.queued_bytes, stats.queued_events, stats.errors) == (0, 0, 0)
    log.wait("on_disconnected")
    assert eventually(lambda: server.stats.connections == 0)
    assert server.stats.connections_total == 1


def test_a_server_that_runs_again_counts_anew(pipe_name):
    server = npipes.Server(pipe_name, on_message=echo)
    for _ in range(2):
        with running(server), Client(server) as client:
            client.request(b"x")
            assert server.stats.messages_in == 1
        assert server.stats.messages_in == 1        # of the last run
