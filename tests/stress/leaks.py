#!/usr/bin/env python3
"""Whether what was begun leaves anything when it has ended: each case in a process of its own.

    python tests/stress/leaks.py [--connections N] [--servers N] [--stops N] [CASE ...]

After a warm-up of a twentieth, descriptors or handles, threads, and objects known to the collector must be as many at
the end as before, and memory no more than a little.  The exit code is 1 where they are not.
"""

import argparse
import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]

from resources import handle_count, release_free_memory, resident_bytes, use_one_heap
from stops import Traffic, by_del, by_handler, by_thread
from support import TIMEOUT, eventually, spare, thread_count

import npipes
import npipes.aio

MEMORY = spare(2 if sys.platform != "win32" else 8)
OBJECTS = 50  # what caches of the interpreter may still come to
HANDLES = 8 if sys.platform == "win32" else 0
WARM_UP = 20  # one in so many
NAME = f"leaks-{os.getpid()}"


def echo(conn, data, cookie):
    conn.write(data)


def echo_server(**options):
    return npipes.Server(NAME, free_threading_events=True, on_message=echo, on_error=lambda conn, error: None, **options)


# ---- connections ----------------------------------------------------------


def clients(count):
    """Blocking clients of one server, each for one message."""
    with echo_server() as server:
        yield
        for _ in range(count):
            with npipes.connect(NAME) as client:
                assert client.call(b"x", timeout=TIMEOUT) == b"x"
        assert eventually(lambda: not server.stats.connections)
        yield


def abandoned_clients(count):
    """Clients that are dropped with an answer unread."""
    with echo_server() as server:
        yield
        for _ in range(count):
            npipes.connect(NAME).send_bytes(b"x")
        assert eventually(lambda: not server.stats.connections)
        yield


def manager(count):
    """Connections of one manager."""
    ended = threading.Semaphore(0)
    with (
        echo_server() as server,
        npipes.ClientManager(
            free_threading_events=True,
            on_connected=lambda conn: conn.write(b"x"),
            on_message=lambda conn, data, cookie: conn.close(),
            on_disconnected=lambda conn: ended.release(),
        ) as manager,
    ):
        yield
        for _ in range(count):
            manager.connect(NAME)
            assert ended.acquire(timeout=TIMEOUT)
        assert eventually(lambda: not server.stats.connections)
        yield


def listener(count):
    """What a Listener accepts."""
    with npipes.Listener(NAME) as listener:
        for number in range(count + 1):
            if number == 1:  # the first wait makes what all others use
                yield
            with npipes.connect(NAME) as client, listener.accept(timeout=TIMEOUT) as accepted:
                client.send_bytes(b"x")
                assert accepted.recv_bytes(timeout=TIMEOUT) == b"x"
        yield


def aio(count):
    """Connections of npipes.aio, with a server on the same loop."""

    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    async def work(count):
        async with npipes.aio.serve(handler, NAME):
            for _ in range(count):
                async with npipes.aio.connect(NAME) as conn:
                    assert await conn.call(b"x") == b"x"

    yield
    asyncio.run(work(count))
    yield


# ---- ends -----------------------------------------------------------------


def servers(count):
    """Servers, each with a client."""
    yield
    for _ in range(count):
        with echo_server(), npipes.connect(NAME) as client:
            assert client.call(b"x", timeout=TIMEOUT) == b"x"
    yield


def dropped_servers(count):
    """Servers in a cycle with their handlers and connections, which nobody stops."""
    yield
    for _ in range(count):
        server = echo_server()
        server.on_connected = lambda conn, server=server: setattr(conn, "custom_data", (conn, server))
        server.start()
        with npipes.connect(NAME) as client:
            assert client.call(b"x", timeout=TIMEOUT) == b"x"
            del server
            gc.collect()
    yield


def stops(count):
    """Stops in the middle of traffic: from another thread, inside a handler, and because nobody has the server."""
    ways = itertools.product([by_thread, by_handler, by_del], [True, False])
    yield
    with Traffic(NAME):
        for _, (stop, free) in zip(range(count), itertools.cycle(ways)):
            stop(NAME, free)
    yield


# ---- measuring ------------------------------------------------------------

CASES = {
    "clients": "connections",
    "abandoned_clients": "connections",
    "manager": "connections",
    "listener": "connections",
    "aio": "connections",
    "servers": "servers",
    "dropped_servers": "servers",
    "stops": "stops",
}


def at_rest():
    gc.collect()
    release_free_memory()
    return {"handles": handle_count(), "threads": thread_count(), "objects": len(gc.get_objects()), "memory": resident_bytes()}


def run_case(name, count):
    use_one_heap()
    for size in (count // WARM_UP or 1, count):
        steps = globals()[name](size)
        next(steps)
        before = at_rest()
        for _ in steps:
            after = at_rest()
        if not eventually(lambda: at_rest()["threads"] <= before["threads"], 5):
            break
        after = after if name in ("clients", "abandoned_clients", "manager", "listener") else at_rest()
    more = {what: after[what] - before[what] for what in after}
    bad = more["handles"] > HANDLES or more["threads"] > 0 or more["objects"] > OBJECTS or more["memory"] > MEMORY
    print(
        f"{name}: {count} times; {more['handles']} handles, {more['threads']} threads, {more['objects']} objects,"
        f" {more['memory'] >> 10} KiB more{', LEAKS' if bad else ''}",
        flush=True,
    )
    return int(bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--stops", type=int, default=2000)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", help=", ".join(CASES))
    args = parser.parse_args()
    if args.here:
        return run_case(args.cases[0], getattr(args, CASES[args.cases[0]]))
    failed = 0
    for name in args.cases or CASES:
        number = str(getattr(args, CASES[name]))
        failed |= subprocess.run([sys.executable, __file__, "--here", f"--{CASES[name]}", number, name]).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
