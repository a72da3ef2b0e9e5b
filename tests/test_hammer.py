"""Sixteen threads that start together and use one object, while the interpreter changes between them all the time."""

import asyncio
import collections
import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import threading

import pytest
from support import TIMEOUT, WINDOWS, Client, Log, descriptor_count, eventually, reply, running

import npipes
import npipes.aio

THREADS = 16
SPARE_HANDLES = 60  # Windows: what the system makes once for a process, its pool's threads among them


def handle_count():
    if not WINDOWS:
        return descriptor_count()
    number = ctypes.c_ulong()
    kernel = ctypes.WinDLL("kernel32")
    assert kernel.GetProcessHandleCount(ctypes.c_void_p(-1), ctypes.byref(number))
    return number.value


def current_group():
    import grp

    return grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def changes_all_the_time_and_leaves_nothing():
    gc.collect()
    before = handle_count() + (SPARE_HANDLES if WINDOWS else 0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
    gc.collect()
    assert eventually(lambda: handle_count() <= before, 5), "descriptors or handles are left"


class Hammer:
    """Threads that have begun to call function(number) together; what each gives or raises."""

    def __init__(self, function, count=THREADS):
        self._barrier = threading.Barrier(count)
        self._function = function
        self._results = [None] * count
        self._problems = []
        self._threads = [threading.Thread(target=self._work, args=(i,)) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self, number):
        try:
            self._barrier.wait(TIMEOUT)
            self._results[number] = self._function(number)
        except BaseException as error:
            self._problems.append(error)

    def results(self):
        for thread in self._threads:
            thread.join(2 * TIMEOUT)
            assert not thread.is_alive(), "a thread hangs"
        if self._problems:
            raise self._problems[0]
        return self._results


def hammer(function, count=THREADS):
    return Hammer(function, count).results()


def rotate(number, operations, rounds):
    """Calls all of the operations, each thread from another one on."""
    for i in range(rounds):
        operations[(number + i) % len(operations)]()


# ---- a server ------------------------------------------------------------


def test_one_server_is_asked_and_changed(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, threads=3, on_message=reply, **log.handlers("on_connected"))
    clients = [connect(server) for _ in range(4)]
    log.wait("on_connected", 4)
    sent = collections.Counter()
    lock = threading.Lock()

    def broadcast():
        assert server.broadcast(b"to all") == 4
        with lock:
            sent["broadcasts"] += 1

    def iterate():
        assert len(server.connections) == 4
        for conn in server.connections:
            assert conn.server is server and conn.is_connected

    def ask():
        assert server.is_running
        stats = server.stats
        assert stats.connections == stats.connections_total == 4
        assert server.address == address
        assert "running" in repr(server)

    def change():
        server.on_message = reply
        server.event(on_sent)
        server.on_drained = lambda conn: None
        server.on_drained = None
        server.max_message_size = 1 << 20
        server.access = "user"
        assert server.on_message is reply and server.access == "user"

    def begin_again():
        server.start()
        if free:  # else it would end the thread inside run()
            server.quit()

    def on_sent(conn, cookie):
        assert cookie is None

    address = server.address
    operations = [broadcast, iterate, ask, change, begin_again]
    hammer(lambda number: rotate(number, operations, 100))
    for client in clients:
        assert client.receive_many(sent["broadcasts"]) == [b"to all"] * sent["broadcasts"]
        assert client.request(b"x") == b"x"
    assert sent["broadcasts"] == THREADS * 20


def test_one_server_starts_and_stops(pipe_name, free):
    """As often as it says that it is ready, and with an end for every connection."""
    log = Log()
    server = npipes.Server(
        pipe_name,
        free_threading_events=free,
        threads=2,
        on_message=reply,
        **log.handlers("on_ready", "on_connected", "on_disconnected"),
    )
    refusals = ("another thread is starting", "is not running", "inside run() or dispatch()")

    def tried(operation):
        try:
            operation()
        except RuntimeError as error:
            assert any(text in str(error) for text in refusals), error

    def visit():
        with contextlib.suppress(OSError, EOFError, AssertionError), Client(server) as client:
            client.send(b"x")
            client.receive(timeout=0.01)

    def write():
        for conn in server.connections:
            with contextlib.suppress(npipes.PipeClosedError):
                conn.write(b"y", cookie=b"y")

    def ask():
        server.stats  # noqa: B018
        repr(server)
        server.wait_handle  # noqa: B018
        server.address  # noqa: B018

    operations = [
        server.start,
        server.stop,
        visit,
        lambda: server.run(timeout=0.001),
        write,
        ask,
        lambda: server.dispatch(0.001),
        server.quit,
        lambda: server.broadcast(b"z"),
    ]
    hammer(lambda number: rotate(number, [lambda op=op: tried(op) for op in operations], 90))
    server.stop()
    assert not server.is_running and not server.connections
    assert len(log.of("on_ready")) > 0
    assert sorted(map(id, (conn for (conn,) in log.of("on_connected")))) == sorted(
        map(id, (conn for (conn,) in log.of("on_disconnected")))
    )
    with running(server), Client(server) as client:
        assert client.request(b"x") == b"x"


@pytest.fixture
def grouped(pipe_name):
    """A name, and an access that is a text which the start reads."""
    if WINDOWS:
        yield pipe_name, "D:P(A;;GA;;;WD)"
        return
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as folder:
        yield f"{folder}/pipe", "group:" + current_group()


def test_parameters_of_a_server_change_while_it_starts(grouped):
    """A start goes by those that it has begun with."""
    pipe_name, access = grouped
    server = npipes.Server(pipe_name, free_threading_events=True, access=access)

    def work(number):
        for i in range(60):
            if number == 0:
                server.start()
                server.stop()
            elif number % 4 == 1:
                server.access = access[:1] + access[1:]  # equal, and a new object
            elif number % 4 == 2:
                server.name = pipe_name[:1] + pipe_name[1:]
                server.authkey = bytes([1 + number]) * 8 if i % 2 else None
            elif number % 4 == 3:
                server.on_message = lambda *args: None
            else:
                assert server.access == access and server.name == pipe_name
                assert pipe_name in repr(server)

    hammer(work)
    server.authkey = None
    server.on_message = reply
    with server, Client(server) as client:
        assert client.request(b"x") == b"x"


# ---- a connection --------------------------------------------------------


def test_one_connection_is_written_to_and_closed(serve, connect, free):
    """Every cookie comes back once: by on_sent, by on_error or with the exception."""
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent", "on_error", "on_disconnected"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    rounds = 120

    def work(number):
        raised = []
        for i in range(rounds):
            cookie = (number, i)
            try:
                if i % 3 == 0:
                    conn.write_many([b"%d" % i] * 3, cookie=cookie)
                else:
                    conn.write(bytes(1 + 700 * (i % 5)), cookie=cookie)
            except npipes.PipeClosedError:
                raised.append(cookie)
            conn.custom_data = cookie
            assert len(conn.custom_data) == 2
            assert conn.pending_bytes >= 0 and conn.handle >= 0 and conn.server is server
            assert "ServerConnection" in repr(conn) and conn.error is None
            with contextlib.suppress(npipes.PipeClosedError):
                assert conn.peer.pid
            with pytest.raises((RuntimeError, npipes.PipeClosedError)):
                conn.read(cookie)
            if i == rounds - 10:
                conn.close()
        return raised

    threads = Hammer(work)
    received = 0
    with contextlib.suppress(EOFError, OSError):
        while True:
            client.receive()
            received += 1
    raised = [cookie for some in threads.results() for cookie in some]
    log.wait("on_disconnected")
    sent = [cookie for _, cookie in log.of("on_sent")]
    failed = [error.cookie for _, error in log.of("on_error") if error.cookie is not None]
    assert sorted(sent + failed + raised) == [(n, i) for n in range(THREADS) for i in range(rounds)]
    assert received == sum(3 if i % 3 == 0 else 1 for _, i in sent)
    assert raised and sent and conn.error is None and not conn.is_connected
    assert len(log.of("on_disconnected")) == 1


# ---- a pair --------------------------------------------------------------


def test_one_pair_is_sent_through_received_from_and_closed():
    """What the senders sent is what the receivers got, and close() ends those that wait."""
    a, b = npipes.Pipe()
    each = 250

    def work(number):
        if number % 2:
            got = []
            with contextlib.suppress(npipes.PipeClosedError, npipes.ConnectionClosed):
                while True:
                    got.append(b.recv_bytes())
                    if len(got) % 10 == 0:
                        b.poll(0)
                    with lock:
                        left[0] -= 1
                    if left[0] == 0:
                        b.close()
            return got
        for i in range(each):
            if i % 5 == 4:
                a.send_many([b"%d %d" % (number, i), b"%d %d" % (number, i + each)])
            else:
                a.send_bytes(b"%d %d" % (number, i))
            assert not a.closed and a.fileno() and "connected" in repr(a)
        return []

    lock = threading.Lock()
    expected = [b"%d %d" % (n, i) for n in range(0, THREADS, 2) for i in [*range(each), *range(each + 4, 2 * each, 5)]]
    left = [len(expected)]
    results = hammer(work)
    assert sorted(message for got in results for message in got) == sorted(expected)
    assert b.closed and not a.closed
    hammer(lambda number: a.close())
    assert a.closed


def test_one_pair_is_closed_under_those_that_use_it():
    for _ in range(15):
        a, b = npipes.Pipe()

        def work(number, a=a, b=b):
            closed = (npipes.PipeClosedError, npipes.ConnectionClosed, npipes.PipeError)
            for i in range(20):
                with contextlib.suppress(closed):
                    [
                        lambda: a.send_bytes(b"x"),
                        lambda: b.recv_bytes(timeout=5),
                        b.fileno,
                        lambda: b.poll(0),
                        lambda: repr(a),
                        a.fileno,
                    ][(number + i) % 6]()
                if i == 15 and number in (3, 4):
                    (a if number == 3 else b).close()

        hammer(work)
        assert a.closed and b.closed


# ---- a manager -----------------------------------------------------------


def test_one_manager_connects_writes_and_stops(serve, free):
    """Whatever was connected is disconnected; connect() works, or says that it is stopping."""
    log, served = Log(), Log()
    server = serve(
        free_threading_events=True,
        threads=2,
        on_message=reply,
        on_error=lambda *a: None,
        **served.handlers("on_connected", "on_disconnected"),
    )
    manager = npipes.ClientManager(
        free_threading_events=free,
        threads=3,
        on_error=lambda *args: None,
        **log.handlers("on_ready", "on_connected", "on_disconnected", "on_message", "on_sent"),
    )
    refusals = ("is stopping", "another thread is starting", "inside run() or dispatch()", "is not running")

    def connect_and_write():
        conn = manager.connect(server.address)
        assert conn.manager is manager and conn.address == server.address
        with contextlib.suppress(npipes.PipeClosedError):
            conn.write(b"x", cookie=1)

    def use():
        for conn in manager.connections:
            with contextlib.suppress(npipes.PipeClosedError):
                conn.write(b"y", cookie=2)
            conn.is_opening  # noqa: B018

    def close():
        for conn in manager.connections[:2]:
            conn.close()

    operations = [
        connect_and_write,
        use,
        connect_and_write,
        close,
        lambda: manager.stats,
        lambda: manager.dispatch(0.001),
        lambda: manager.broadcast(b"z"),
    ]

    def work(number):
        for i in range(150):
            try:
                operations[(number + i) % len(operations)]()
                if i == 90 and number % 4 == 0:
                    manager.stop()
            except RuntimeError as error:
                assert any(text in str(error) for text in refusals), error

    # On one processor the threads may close and stop whatever they began before it is connected.
    manager.connect(server.address)
    assert eventually(lambda: (free or manager.dispatch(0.01), log.of("on_connected"))[1])
    hammer(work)
    manager.stop()
    assert not manager.connections and not manager.is_running
    ups, downs = log.of("on_connected"), log.of("on_disconnected")
    assert len(ups) == len(downs) > 0 and {id(c) for (c,) in ups} == {id(c) for (c,) in downs}
    assert len({id(c) for (c,) in ups}) == len(ups)
    assert 0 < len(log.of("on_ready")) <= 1 + THREADS // 4
    served.wait("on_disconnected", len(served.of("on_connected")))
    assert eventually(lambda: server.stats.connections == 0)


# ---- asyncio -------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* was never awaited")
def test_a_loops_connection_is_called_from_other_threads(pipe_name):
    """What is promised works: through the loop.  The rest works or is an error, and breaks nothing."""
    each = 40

    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    def ask(conn):
        for get in (
            repr,
            lambda c: c.is_connected,
            lambda c: c.handle,
            lambda c: c.pending_bytes,
            lambda c: c.peer.pid,
            lambda c: c.address,
            lambda c: c.error,
        ):
            get(conn)
        conn.custom_data = threading.get_ident()

    def direct(conn, i):
        """Not promised: each of these, and then it is thrown away."""
        for make in (
            conn.recv,
            conn.drain,
            lambda: conn.call(b"never"),
            lambda: conn.send(b"never"),
            conn.__anext__,
            conn.wait_closed,
        ):
            make()
        conn.send_nowait(b"direct %d" % i)

    async def main():
        loop = asyncio.get_running_loop()
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:

            def work(number):
                for i in range(each):
                    if number % 4 == 0:
                        asyncio.run_coroutine_threadsafe(send(conn, b"task %d %d" % (number, i)), loop).result(TIMEOUT)
                    elif number % 4 == 1:
                        loop.call_soon_threadsafe(conn.send_nowait, b"soon %d %d" % (number, i))
                    elif number % 4 == 2:
                        ask(conn)
                    else:
                        direct(conn, i)

            threads = await asyncio.to_thread(Hammer, work)
            expected = collections.Counter(
                [b"task %d %d" % (n, i) for n in range(0, THREADS, 4) for i in range(each)]
                + [b"soon %d %d" % (n, i) for n in range(1, THREADS, 4) for i in range(each)]
                + [b"direct %d" % i for i in range(each)] * (THREADS // 4)
            )
            got = collections.Counter()
            async with asyncio.timeout(TIMEOUT):
                while got.total() < expected.total():
                    got[await conn.recv()] += 1
            assert got == expected
            await asyncio.to_thread(threads.results)
            assert await conn.call(b"last") == b"last"

    async def send(conn, data):
        await conn.send(data)

    asyncio.run(main())


def test_a_loops_connection_is_closed_from_other_threads(pipe_name):
    """A task that waits in recv() is resumed on its loop's thread only."""
    large = bytes(300_000)
    resumed_on = []

    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    async def receive(conn):
        try:
            while True:
                await conn.recv()
        except EOFError:
            resumed_on.append(threading.get_ident())

    async def main():
        async with npipes.aio.serve(handler, pipe_name):
            for _ in range(12):
                conn = await npipes.aio.connect(pipe_name)
                task = asyncio.create_task(receive(conn))
                for _ in range(4):
                    await conn.send(large)
                threads = await asyncio.to_thread(Hammer, lambda number, conn=conn: conn.close(), 4)
                await asyncio.to_thread(threads.results)
                async with asyncio.timeout(TIMEOUT):
                    await conn.wait_closed()
                    await task
                assert not conn.is_connected

    asyncio.run(main())
    assert resumed_on == [threading.get_ident()] * 12
