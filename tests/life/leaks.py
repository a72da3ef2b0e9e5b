"""Makes and ends connections, or servers, by the thousand, and prints what is left of them.

    python tests/life/leaks.py WHAT COUNT

A tenth of them goes ahead, so that what is made once has been made; then memory, descriptors
(Windows: handles), threads, Python's objects and, in a debug build of Python, references must
be what they were.
"""

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import TIMEOUT, WINDOWS, eventually, thread_count  # noqa: E402

import npipes  # noqa: E402
import npipes.aio  # noqa: E402

if WINDOWS:
    from windows_process import private_bytes as memory, handle_count as descriptor_count
else:
    from support import descriptor_count, resident_bytes as memory

# What may be left whatever the count: the allocators keep some pages, the
# interpreter some objects and their references.
MEMORY, OBJECTS, REFERENCES = 1 << 20, 20, 200


def references():
    return getattr(sys, "gettotalrefcount", int)()


def measured():
    for _ in range(3):
        gc.collect()
    return {
        "memory": memory(),
        "descriptors": descriptor_count(),
        "threads": thread_count(),
        "objects": len(gc.get_objects()),
        "references": references(),
    }


def returned(before):
    now = measured()
    return (now["memory"] - before["memory"] <= MEMORY
            and now["descriptors"] <= before["descriptors"]
            and now["threads"] <= before["threads"]
            and now["objects"] - before["objects"] <= OBJECTS
            and now["references"] - before["references"] <= REFERENCES)


def reply(conn, data, cookie):
    conn.custom_data = conn     # a cycle
    conn.write(data, object())


def reply_if_connected(conn, data, cookie):
    with contextlib.suppress(npipes.PipeClosedError):
        reply(conn, data, cookie)


# ---- what is made --------------------------------------------------------


def connections(name):
    """Of a server whose events run on its workers, by blocking clients."""
    ended = threading.Semaphore(0)
    with npipes.Server(name, free_threading_events=True, on_message=reply,
                       on_disconnected=lambda conn: ended.release()) as server:
        def make(count):
            for i in range(count):
                with npipes.connect(server.address, timeout=TIMEOUT) as client:
                    client.send_bytes(b"%d" % i)
                    assert client.recv_bytes(timeout=TIMEOUT) == b"%d" % i
                assert ended.acquire(timeout=TIMEOUT)

        yield make


def managed(name):
    """By a ClientManager, whose events and the server's run inside dispatch()."""
    ended = []
    with npipes.Server(name, on_message=reply) as server:
        manager = npipes.ClientManager(on_message=lambda conn, data, cookie: conn.close(),
                                       on_connected=lambda conn: conn.write(b"x"),
                                       on_disconnected=lambda conn: ended.append(1))

        def make(count):
            for _ in range(count):
                ended.clear()
                manager.connect(name, timeout=TIMEOUT)
                end = time.monotonic() + TIMEOUT
                while not ended or server.stats.connections:
                    server.dispatch(0.0005)
                    manager.dispatch(0.0005)
                    assert time.monotonic() < end, "a connection does not end"

        yield make
        manager.stop()


def aio(name):
    """Of both sides of npipes.aio on one loop."""

    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    async def talk(count):
        for _ in range(count):
            async with npipes.aio.connect(name, timeout=TIMEOUT) as conn:
                assert await conn.call(b"x") == b"x"
        while server.connections:
            await asyncio.sleep(0)

    async def begin():
        return await npipes.aio.serve(handler, name)

    with asyncio.Runner() as runner:
        server = runner.run(begin())
        yield lambda count: runner.run(talk(count))
        runner.run(_closed(server))


async def _closed(server):
    await server.close()


def servers(name):
    """Each with a client; half of them are stopped and half are dropped."""

    def make(count):
        for i in range(count):
            server = npipes.Server(name, free_threading_events=bool(i & 2), threads=2,
                                   on_message=reply_if_connected)
            server.start()
            with npipes.connect(name, timeout=TIMEOUT) as client:
                client.send_bytes(b"x")
                if i & 2:
                    assert client.recv_bytes(timeout=TIMEOUT) == b"x"
                if i & 1:
                    server.stop()
                del server

    yield make


def aio_servers(name):
    """Each on a loop of its own that has a client; half of the loops are closed under both."""

    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    async def talk(close):
        server = await npipes.aio.serve(handler, name)
        conn = await npipes.aio.connect(name, timeout=TIMEOUT)
        assert await conn.call(b"x") == b"x"
        if close:
            await conn.close()
            await server.close()

    def make(count):
        for i in range(count):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(talk(i & 1))
            loop.close()

    yield make


KINDS = {"connections": connections, "managed": managed, "aio": aio,
         "servers": servers, "aio-servers": aio_servers}


def main(kind, count):
    work = KINDS[kind](f"npipes-leaks-{os.getpid()}")
    make = next(work)
    make(max(count // 10, 20))
    before = measured()
    begin = time.monotonic()
    make(count)
    took = time.monotonic() - begin
    # A thread that was joined may take a moment to leave the system's list.
    good = eventually(lambda: returned(before), 5)
    after = measured()
    print(f"{count} {kind} in {took:.0f} s:",
          ", ".join(f"{what} {before[what]} -> {after[what]}" for what in before))
    for _ in work:
        pass
    if not good:
        sys.exit(f"not all has returned after {count} {kind}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
