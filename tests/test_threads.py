"""Every method from any thread, while the server works."""

import contextlib
import threading

import pytest
from support import TIMEOUT, Client, Log, echo, eventually, reply, running

import npipes

THREADS = 8


def together(function, count=THREADS):
    """Runs function(number) in so many threads at once; what they raised."""
    problems = []
    barrier = threading.Barrier(count)

    def work(number):
        try:
            barrier.wait(TIMEOUT)
            function(number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads, problems


def finish(threads, problems):
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert not problems


@pytest.mark.parametrize("size", [10, 5_000, 100_000])
def test_writes_of_many_threads_arrive_whole_and_in_each_ones_order(serve, connect, free, size):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    each = 2_000_000 // size if size > 100 else 500
    each = min(each, 200)

    def write(number):
        for i in range(each):
            conn.write(b"%d %d " % (number, i) + bytes([number]) * size, cookie=(number, i))

    work = together(write)
    seen = [0] * THREADS
    for _ in range(each * THREADS):
        number, i, body = client.receive().split(b" ", 2)
        number = int(number)
        assert int(i) == seen[number] and body == bytes([number]) * size
        seen[number] += 1
    finish(*work)
    sent = [cookie for _, cookie in log.wait("on_sent", each * THREADS)]
    for number in range(THREADS):
        assert [i for n, i in sent if n == number] == list(range(each))


def test_writes_broadcasts_and_questions_at_once(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, threads=3, on_message=echo, **log.handlers("on_connected"))
    clients = [connect(server) for _ in range(4)]
    conns = [conn for (conn,) in log.wait("on_connected", 4)]

    def work(number):
        for _ in range(50):
            if number % 4 == 0:
                server.broadcast(b"broadcast")
            elif number % 4 == 1:
                for conn in conns:
                    conn.write(b"write")
            elif number % 4 == 2:
                assert len(server.connections) == 4
                assert all(conn.peer.pid for conn in server.connections)
                assert server.stats.connections == 4
            else:
                server.on_drained = None
                assert [conn.is_connected for conn in conns] == [True] * 4
                assert all(conn.handle and conn.pending_bytes >= 0 for conn in conns)

    threads = together(work)
    for client in clients:
        got = client.receive_many(200)
        assert sorted(got) == [b"broadcast"] * 100 + [b"write"] * 100
    finish(*threads)
    for client in clients:
        assert client.request(b"x") == b"x"


def test_closes_of_many_threads_end_each_connection_once(serve, free):
    log = Log()
    server = serve(free_threading_events=free, threads=2, **log.handlers("on_connected", "on_disconnected", "on_error"))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(20)]
        conns = [conn for (conn,) in log.wait("on_connected", 20)]

        def close(number):
            for conn in conns:
                with contextlib.suppress(npipes.PipeClosedError):
                    conn.write(b"x")
                conn.close()

        finish(*together(close))
        log.wait("on_disconnected", 20)
        for client in clients:
            with pytest.raises((EOFError, OSError)):
                while True:
                    assert client.receive() == b"x"
    assert len(log.of("on_disconnected")) == 20
    assert not log.of("on_error")
    assert all(conn.error is None for conn in conns)


def test_writes_to_clients_that_leave_are_answered_exactly_once(serve, free):
    """A cookie comes back by on_sent, by on_error, or with the exception of write()."""
    log = Log()
    server = serve(
        free_threading_events=free, threads=2, **log.handlers("on_connected", "on_sent", "on_error", "on_disconnected")
    )
    raised, lock = [], threading.Lock()
    for round in range(5):
        client = Client(server)
        conn = log.wait("on_connected", round + 1)[-1][0]

        def write(number, conn=conn, round=round):
            for i in range(40):
                try:
                    conn.write(bytes(20_000), cookie=(round, number, i))
                except npipes.PipeClosedError:
                    with lock:
                        raised.append((round, number, i))

        threads = together(write)
        client.receive_many(20)
        client.close()
        finish(*threads)
        log.wait("on_disconnected", round + 1)
    sent = [cookie for _, cookie in log.of("on_sent")]
    failed = [error.cookie for _, error in log.of("on_error") if error.cookie is not None]
    everything = [(r, n, i) for r in range(5) for n in range(THREADS) for i in range(40)]
    assert sorted(sent + failed + raised) == everything


@pytest.mark.parametrize("stopper", ["thread", "handler"])
def test_stop_while_clients_flood(pipe_name, free, stopper):
    log = Log()
    end = threading.Event()

    def on_message(conn, data, cookie):
        log_count[0] += 1
        with contextlib.suppress(npipes.PipeClosedError):
            conn.write(data)
        if stopper == "handler" and log_count[0] == 500:
            server.stop()

    log_count = [0]
    server = npipes.Server(
        pipe_name,
        free_threading_events=free,
        threads=3,
        on_message=on_message,
        on_error=lambda *args: None,
        **log.handlers("on_connected", "on_disconnected"),
    )

    def flood(number):
        with contextlib.suppress(OSError, EOFError), Client(server) as client:
            while not end.is_set():
                client.send(bytes(1000))
                while client.connection.poll():
                    client.receive()

    with running(server):
        threads = together(flood, 4)
        assert eventually(lambda: log_count[0] >= 500)
        server.stop()
        assert not server.is_running
        after = len(log.of("on_disconnected"))
        assert after == len(log.of("on_connected")) > 0
        count = log_count[0]
        end.set()
        finish(*threads)
        assert log_count[0] == count, "events came after stop() had returned"


def test_start_stop_write_broadcast_and_connect_all_at_once(pipe_name, free):
    """Nothing but documented exceptions comes out of it, and it still works afterwards."""
    server = npipes.Server(pipe_name, free_threading_events=free, threads=2, on_message=reply, on_error=lambda *args: None)
    end = threading.Event()

    def work(number):
        for _ in range(30):
            if number == 0:
                server.start()
                server.stop()
            elif number in (1, 2):
                with contextlib.suppress(OSError, EOFError, AssertionError), Client(server) as c:
                    c.send(b"x")
                    c.receive(timeout=0.01)
            elif number == 3:
                for conn in server.connections:
                    with contextlib.suppress(npipes.PipeError):
                        conn.write(b"y")
            elif number == 4:
                server.broadcast(b"z")
            elif number == 5:
                with contextlib.suppress(RuntimeError):
                    server.run(timeout=0.001)
            elif number == 6:
                for conn in server.connections:
                    conn.close()
            else:
                server.stats  # noqa: B018
                server.quit()
                server.address  # noqa: B018
        if number == 0:
            end.set()

    finish(*together(work))
    server.stop()
    with running(server), Client(server) as client:
        assert client.request(b"x") == b"x"
