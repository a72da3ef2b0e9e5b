"""Which events come, in which order, how often, and on which threads."""

import socket
import threading

import pytest
from support import TIMEOUT, Client, Log, echo, eventually, linux_only, raw_client, running, thread_count

import npipes

ALL = ("on_ready", "on_connected", "on_message", "on_sent", "on_disconnected", "on_drained", "on_error")


def test_a_connection_begins_and_ends_once_with_its_messages_between(serve, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers(*ALL))
    with Client(server) as client:
        for i in range(10):
            client.send(b"%d" % i)
    ((conn,),) = log.wait("on_disconnected")
    assert log.names() == (["on_ready", "on_connected"] + ["on_message"] * 10 + ["on_disconnected"])
    assert log.of("on_connected") == [(conn,)]
    assert log.of("on_message") == [(conn, b"%d" % i, None) for i in range(10)]


@pytest.mark.parametrize("keep", ["all", "every second", "a view", "none"])
def test_a_message_that_is_kept_stays_as_it_came(serve, free, keep):
    sent = [b"%06d" % i for i in range(2000)]
    sent[500:500] = [b"longer than those around it", b"", b"x"] * 3
    seen, hashes = [], []

    def on_message(conn, data, cookie):
        hashes.append(hash(data))
        if keep == "all" or (keep == "every second" and len(hashes) % 2):
            seen.append(data)
        elif keep == "a view":
            seen.append(memoryview(data))
        else:
            seen.append(bytearray(data))

    server = serve(free_threading_events=free, on_message=on_message)
    with Client(server) as client:
        for data in sent:
            client.send(data)
        eventually(lambda: len(seen) == len(sent))
    assert seen == sent
    assert hashes == [hash(data) for data in sent]


@pytest.mark.parametrize("threads", [1, 4])
def test_ready_comes_once_per_start(pipe_name, free, threads):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, threads=threads, **log.handlers("on_ready", "on_connected"))
    for count in range(1, 4):
        with running(server):
            log.wait("on_ready", count)
            with Client(server):
                log.wait("on_connected", count)
        assert sorted(log.names()) == ["on_connected"] * count + ["on_ready"] * count


def test_ready_comes_before_the_first_client(pipe_name, free):
    for _ in range(20):
        log = Log()
        server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_ready", "on_connected"))
        with running(server), Client(server):
            log.wait("on_connected")
        assert log.names() == ["on_ready", "on_connected"]


def test_every_client_gets_its_own_begin_and_end(serve, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers(*ALL))
    for _ in range(30):
        with Client(server) as client:
            client.send(b"x")
    log.wait("on_disconnected", 30)
    by_conn = {}
    for name, *args in log.entries[1:]:
        by_conn.setdefault(args[0], []).append(name)
    assert list(by_conn.values()) == [["on_connected", "on_message", "on_disconnected"]] * 30


@pytest.mark.parametrize("threads", [1, 4])
def test_events_of_one_connection_never_overlap_and_keep_their_order(serve, connect, threads):
    inside, faults, last = {}, [], {}
    log = Log()

    def enter(conn):
        if inside.setdefault(conn, threading.Lock()).acquire(blocking=False):
            return True
        faults.append("two at once")
        return False

    def on_message(conn, data, cookie):
        if enter(conn):
            number = int(data)
            if number != last.get(conn, -1) + 1:
                faults.append(f"{number} after {last.get(conn)}")
            last[conn] = number
            conn.write(data, cookie=number)
            inside[conn].release()

    def on_sent(conn, cookie):
        if enter(conn):
            log.add("on_sent", conn, cookie)
            inside[conn].release()

    server = serve(threads=threads, on_message=on_message, on_sent=on_sent)
    clients = [connect(server) for _ in range(8)]
    for i in range(200):
        for client in clients:
            client.send(b"%d" % i)
    for client in clients:
        assert client.receive_many(200) == [b"%d" % i for i in range(200)]
    log.wait("on_sent", 1600)
    assert not faults
    for conn in last:
        assert [cookie for c, cookie in log.of("on_sent") if c is conn] == list(range(200))


def test_different_connections_run_in_parallel(serve, connect):
    """Each of four workers has a handler that waits for the other three."""
    together = threading.Event()
    inside, lock = set(), threading.Lock()
    threads = set()

    def on_message(conn, data, cookie):
        with lock:
            inside.add(conn)
            threads.add(threading.get_ident())
            if len(inside) == 4:
                together.set()
        together.wait(TIMEOUT)
        conn.write(data)

    server = serve(threads=4, on_message=on_message)
    clients = [connect(server) for _ in range(16)]
    for client in clients:
        client.send(b"x")
    assert together.wait(TIMEOUT), f"{len(inside)} handlers at once"
    for client in clients:
        assert client.receive() == b"x"
    assert len(threads) == 4


def test_free_threading_events_run_on_other_threads_and_marshalled_ones_in_run(pipe_name, free):
    threads = set()
    loops = []

    def on_message(conn, data, cookie):
        threads.add(threading.get_ident())
        conn.write(data)

    server = npipes.Server(pipe_name, free_threading_events=free, on_message=on_message)

    def loop():
        loops.append(threading.get_ident())
        server.run()

    with server:
        thread = threading.Thread(target=loop)
        thread.start()
        with Client(server) as client:
            for _ in range(20):
                client.request(b"x")
    thread.join(TIMEOUT)
    if free:
        assert not threads & {threading.get_ident(), *loops}
    else:
        assert threads == set(loops)


@linux_only
def test_there_are_so_many_workers_as_threads_says_and_one_for_marshalled_events(pipe_name, free):
    before = thread_count()
    with npipes.Server(pipe_name, free_threading_events=free, threads=5) as server:
        assert thread_count() - before == (5 if free else 1)
        assert server.threads == 5


# ---- writes --------------------------------------------------------------


def test_sent_comes_for_every_accepted_write_with_its_cookie(serve, connect, free):
    log = Log()
    cookies = [object(), "two", 3, None, ("five",)]

    def on_message(conn, data, cookie):
        for i, cookie in enumerate(cookies):
            conn.write(b"x" * (i * 40_000 + 1), cookie)

    client = connect(serve(free_threading_events=free, on_message=on_message, **log.handlers("on_sent")))
    client.send(b"go")
    client.receive_many(len(cookies))
    sent = [cookie for _, cookie in log.wait("on_sent", len(cookies))]
    assert sent == cookies
    assert sent[0] is cookies[0]


def test_writes_of_nothing_have_no_sent(serve, connect, free):
    log = Log()

    def on_message(conn, data, cookie):
        conn.write(b"", cookie="nothing")
        conn.write(data, cookie="something")

    client = connect(serve(free_threading_events=free, on_message=on_message, **log.handlers("on_sent")))
    assert client.request(b"x") == b"x"
    assert [cookie for _, cookie in log.wait("on_sent")] == ["something"]


def test_sent_of_what_the_peer_never_takes_does_not_come(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers(*ALL))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    for i in range(10):
        conn.write(bytes(1_000_000), cookie=i)
    client.close()
    ((gone,),) = log.wait("on_disconnected")
    assert gone is conn
    sent = [cookie for _, cookie in log.of("on_sent")]
    failed = [error.cookie for _, error in log.of("on_error") if error.cookie is not None]
    assert sent + failed == list(range(10))  # each exactly once, in order
    assert failed, "the system took 10 MB for a peer that did not read"
    errors = [error for _, error in log.of("on_error")]
    assert all(isinstance(e, npipes.PipeClosedError) and e.operation == "write" for e in errors)
    assert isinstance(conn.error, npipes.PipeClosedError)
    assert log.names()[-1] == "on_disconnected"


def test_a_write_from_another_thread_goes_out_at_once(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    for size in (1, 100, 70_000, 3_000_000):
        conn.write(b"x" * size, cookie=size)
        assert client.receive() == b"x" * size
    assert [cookie for _, cookie in log.wait("on_sent", 4)] == [1, 100, 70_000, 3_000_000]


def test_drained_comes_once_when_the_queue_has_fallen_below_a_quarter(serve, connect, free):
    log = Log()
    pending = []

    def on_drained(conn):
        pending.append(conn.pending_bytes)
        log.add("on_drained", conn)

    server = serve(
        free_threading_events=free, write_high_water=400_000, on_drained=on_drained, **log.handlers("on_connected", "on_sent")
    )
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    for round in (1, 2):
        for _ in range(30):
            conn.write(bytes(100_000))
        assert conn.pending_bytes > 400_000
        for _ in range(30):
            assert len(client.receive()) == 100_000
        log.wait("on_drained", round)
        log.wait("on_sent", 30 * round)
        assert len(log.of("on_drained")) == round
    assert all(n <= 100_000 for n in pending), pending
    assert conn.pending_bytes == 0


def test_drained_does_not_come_when_the_high_water_mark_was_not_reached(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent", "on_drained"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    conn.write(bytes(900_000))
    assert len(client.receive()) == 900_000
    log.wait("on_sent")
    assert not log.of("on_drained")


# ---- the end of a connection ---------------------------------------------


def test_disconnected_is_the_last_event_and_leaves_the_object_closed(serve, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers(*ALL))
    with Client(server):
        ((conn,),) = log.wait("on_connected")
        assert conn.is_connected and not conn.is_opening
        assert conn.handle > 0
        assert conn.server is server
        assert server.connections == [conn]
    log.wait("on_disconnected")
    assert not conn.is_connected and not conn.is_opening
    assert conn.handle == 0
    assert conn.error is None
    assert conn.pending_bytes == 0
    assert not log.of("on_error")
    with pytest.raises(npipes.PipeClosedError) as info:
        conn.write(b"x", cookie="lost")
    assert isinstance(info.value, BrokenPipeError)
    assert info.value.operation == "write"
    conn.close()  # does nothing


def test_close_hands_over_what_was_written(serve, free):
    def on_message(conn, data, cookie):
        for _ in range(5):
            conn.write(bytes(1_000_000))
        conn.write(b"last")
        conn.close()
        assert not conn.is_connected
        with pytest.raises(npipes.PipeClosedError):
            conn.write(b"too late")

    log = Log()
    server = serve(free_threading_events=free, on_message=on_message, **log.handlers("on_disconnected", "on_error", "on_sent"))
    with Client(server) as client:
        client.send(b"go")
        for _ in range(5):
            assert len(client.receive()) == 1_000_000
        assert client.receive() == b"last"
        assert client.has_ended()
        ((conn,),) = log.wait("on_disconnected")
    assert conn.error is None
    assert len(log.of("on_sent")) == 6
    assert not log.of("on_error")


def test_close_waits_five_seconds_at_most_for_a_peer_that_does_not_read(serve, connect):
    log = Log()
    server = serve(**log.handlers("on_connected", "on_disconnected", "on_error"))
    connect(server)
    ((conn,),) = log.wait("on_connected")
    conn.write(bytes(10_000_000), cookie="stuck")
    conn.close()
    conn.close()
    log.wait("on_disconnected", timeout=10)
    assert isinstance(conn.error, npipes.PipeTimeoutError)
    assert isinstance(conn.error, TimeoutError)
    assert [error.cookie for _, error in log.of("on_error")] == [None, "stuck"]


@linux_only
def test_a_peer_that_closes_its_writing_end_still_gets_its_replies(serve, free):
    server = serve(free_threading_events=free, on_message=echo, mode="byte")
    with raw_client(server) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        reply = b""
        while part := client.recv(100):
            reply += part
    assert reply == b"question"


def test_custom_data_is_the_applications(serve, connect):
    log = Log()
    connect(serve(**log.handlers("on_connected")))
    ((conn,),) = log.wait("on_connected")
    assert conn.custom_data is None
    conn.custom_data = thing = {"any": "object"}
    assert conn.custom_data is thing
    assert {conn: 1}[conn] == 1
    assert "connected" in repr(conn) and conn.server.address in repr(conn)
