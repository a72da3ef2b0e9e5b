"""Stops servers in the middle of traffic, again and again, and checks how each of them ended.

    python tests/stress/stops.py WAY COUNT

What is checked after every stop: each connection that began has ended once, every write
that was accepted came back once, as sent or as an error, and nothing is left running.
"""

import asyncio
import contextlib
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import TIMEOUT, eventually, thread_count  # noqa: E402

import npipes  # noqa: E402
import npipes.aio  # noqa: E402

CLIENTS = 2


class Traffic:
    """Clients in threads that talk to whoever serves the name."""

    def __init__(self, name):
        self._name = name
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]

    def _work(self):
        while not self._over.is_set():
            with contextlib.suppress(OSError, EOFError):
                with npipes.connect(self._name, timeout=0.05) as client:
                    for size in range(100_000):
                        client.send_bytes(bytes(1 + size * 100 % 70_000))
                        client.recv_bytes(timeout=TIMEOUT)

    def __enter__(self):
        for thread in self._threads:
            thread.start()

    def __exit__(self, *exc):
        self._over.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "a client is stuck"


class Tally:
    """The events of one server; its methods hold no reference to that server."""

    def __init__(self):
        self.begun, self.ended, self.written, self.answered = Counter(), Counter(), set(), Counter()
        self.strange = []
        self.served = threading.Event()
        self.messages = 0
        self.stop_at = random.randrange(1, 6)
        self.stop = None
        self._lock = threading.Lock()

    def on_connected(self, conn):
        self.begun[id(conn)] += 1
        conn.custom_data = self  # a cycle: tally, handlers, connection

    def on_message(self, conn, data, cookie):
        with self._lock:
            self.messages += 1
            cookie = self.messages
        with contextlib.suppress(npipes.PipeClosedError):
            conn.write(data, cookie)
            self.written.add(cookie)
        if self.stop and self.messages >= self.stop_at:
            self.stop()
        self.served.set()

    def on_sent(self, conn, cookie):
        self.answered[cookie] += 1

    def on_error(self, conn, error):
        if error.cookie is not None:
            self.answered[error.cookie] += 1
        elif not isinstance(error, (npipes.PipeResetError, npipes.PipeClosedError)):
            self.strange.append(error)

    def on_disconnected(self, conn):
        self.ended[id(conn)] += 1

    def server(self, name, free, kind=npipes.Server):
        return kind(
            name,
            free_threading_events=free,
            threads=2,
            on_connected=self.on_connected,
            on_message=self.on_message,
            on_sent=self.on_sent,
            on_error=self.on_error,
            on_disconnected=self.on_disconnected,
        )

    def check(self):
        assert eventually(lambda: sum(self.begun.values()) == sum(self.ended.values())), (
            f"{sum(self.begun.values())} began, {sum(self.ended.values())} ended"
        )
        assert eventually(lambda: len(self.answered) >= len(self.written))
        assert set(self.answered) == self.written
        assert set(self.answered.values()) <= {1}
        assert not self.strange, self.strange


@contextlib.contextmanager
def in_run(server, free):
    """A thread inside run() where events need one."""
    if free:
        yield
        return

    def run():
        with contextlib.suppress(RuntimeError):  # stopped before this thread got here
            server.run()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(TIMEOUT)
    assert not thread.is_alive(), "run() has not returned"


def a_while():
    time.sleep(random.random() / 2000)


def by_thread(name, free):
    tally = Tally()
    server = tally.server(name, free)
    server.start()
    with in_run(server, free):
        assert tally.served.wait(TIMEOUT)
        a_while()
        server.stop()
    assert not server.is_running and server.connections == []
    tally.check()


def by_handler(name, free):
    tally = Tally()
    server = tally.server(name, free)
    tally.stop = server.stop
    server.start()
    with in_run(server, free):
        assert tally.served.wait(TIMEOUT)
        assert eventually(lambda: not server.is_running)
    server.stop()  # waits for what the handler's could not
    assert server.connections == []
    tally.stop = None
    tally.check()


def by_del(name, free):
    """Dropping delivers what is due, also where a __del__ does not call super()'s."""
    tally = Tally()

    class Server(npipes.Server):
        def __del__(self):
            if random.random() < 0.5:
                self.stop()

    server = tally.server(name, free, Server)
    server.start()
    if free:
        assert tally.served.wait(TIMEOUT)
    else:
        server.run(0.002)
    a_while()
    del server
    tally.check()
    assert eventually(lambda: is_free(name)), "the name is still served"


def is_free(name):
    try:
        npipes.Server(name).start()
    except OSError:
        return False
    return True


# ---- asyncio -------------------------------------------------------------


class AioTally:
    """Connections of a server of npipes.aio, and its handlers."""

    def __init__(self):
        self.begun = self.over = self.messages = 0
        self.served = asyncio.Event()

    async def handler(self, conn):
        self.begun += 1
        conn.custom_data = asyncio.current_task()
        try:
            async for message in conn:
                self.messages += 1
                await conn.send(message)
                self.served.set()
        except (OSError, EOFError):
            pass
        finally:
            self.over += 1


async def _begin(name):
    tally = AioTally()
    server = await npipes.aio.serve(tally.handler, name)
    await asyncio.wait_for(tally.served.wait(), TIMEOUT)
    await asyncio.sleep(random.random() / 2000)
    return tally, server


def aio_close(name, free):
    async def main():
        tally, server = await _begin(name)
        await server.close(grace=0.0)
        assert not server.is_running
        assert tally.begun == tally.over > 0, f"{tally.begun} began, {tally.over} ended"

    asyncio.run(main())


def aio_closed_loop(name, free):
    """The loop is closed under a server, its handlers and their clients."""
    loop = asyncio.new_event_loop()
    _, server = loop.run_until_complete(_begin(name))
    loop.close()
    assert not server.is_running and server.connections == []


def aio_dropped(name, free):
    """Of a server and a client that nobody holds only the loop is left, and it ends."""

    async def main():
        conn = await npipes.aio.connect(name, timeout=TIMEOUT)
        conn.custom_data = conn
        await conn.send(b"x")

    async def both():
        await _begin(name)
        await main()

    asyncio.run(both())


WAYS = {
    "thread": by_thread,
    "handler": by_handler,
    "del": by_del,
    "aio-close": aio_close,
    "aio-closed-loop": aio_closed_loop,
    "aio-dropped": aio_dropped,
}


def main(way, count, name=None):
    name = name or f"npipes-stops-{os.getpid()}"
    before = thread_count()
    random.seed(7)
    with Traffic(name):
        for i in range(count):
            WAYS[way](name, bool(i % 2))
    assert eventually(lambda: thread_count() <= before)
    print(f"{count} stops by {way}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
