#!/usr/bin/env python3
"""Kills servers and clients at random moments under load, and looks at who is left.

    python tests/stress/kills.py [--kills N] [--seed N] [server] [client]

server   a process that serves clients of every kind in this one is killed, and the next takes its name: each client
         must see the end, as an error that has a name, and be served again
client   a process with one client of a server in this one is killed: its connection must end, once, with every write
         accounted for, and another client be served meanwhile

At the end no thread and no descriptor or handle is more than there were.  The exit code is 1 where something is wrong.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]

import victims
from messages import is_end
from resources import handle_count
from stops import Tally, in_run
from support import TIMEOUT, eventually, thread_count
from victims import SIZES

import npipes
import npipes.aio

WINDOWS = sys.platform == "win32"
SPARE_HANDLES = 40 if WINDOWS else 0  # the system's libraries keep some of their own
WARM_UP = 1
LONGEST = 0.01  # seconds from the first message to the kill
if not WINDOWS:
    forks = multiprocessing.get_context("forkserver")


class Process:
    """A function of victims.py in a process of its own, which is killed at the end."""

    def __init__(self, function, name, number):
        if WINDOWS:
            self._process = subprocess.Popen([sys.executable, victims.__file__, function, name, str(number)])
        else:
            self._process = forks.Process(target=getattr(victims, function), args=(name, number), daemon=True)
            self._process.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._process.kill()
        if WINDOWS:
            self._process.wait(TIMEOUT)
        else:
            self._process.join(TIMEOUT)
            self._process.close()


def a_while(rng):
    time.sleep(rng.random() * LONGEST)


# ---- servers that are killed ----------------------------------------------


class Survivor:
    """A client that goes on with the next server."""

    def __init__(self, name):
        self.name = name
        self.served_by = None
        self.ends = Counter()
        self.wrong = []
        self.over = threading.Event()

    def answered(self, answer, message):
        number, _, rest = answer.partition(b" ")
        if rest != message:
            self.wrong.append(f"{len(rest)} bytes came for {len(message)}")
        self.served_by = int(number)

    def ended(self, error):
        self.ends[type(error).__name__] += 1
        if error is not None and not is_end(error):
            self.wrong.append(repr(error))


class InThread(Survivor):
    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), f"{type(self).__name__} hangs"

    def _run(self):
        while not self.over.is_set():
            try:
                self.visit()
            except (npipes.PipeTimeoutError, npipes.PipeNotFoundError) as error:
                # Between two servers.
                if error.operation != "connect":
                    self.wrong.append(repr(error))
            except (OSError, EOFError) as error:
                self.ended(error)


class Blocking(InThread):
    def visit(self):
        with npipes.connect(self.name, timeout=1.0) as client:
            for i in range(10**9):
                message = bytes(SIZES[i % len(SIZES)])
                client.send_bytes(message, timeout=TIMEOUT)
                self.answered(client.recv_bytes(timeout=TIMEOUT), message)
                if self.over.is_set():
                    return


class OnLoop(InThread):
    def visit(self):
        asyncio.run(self._visit())

    async def _visit(self):
        async with npipes.aio.connect(self.name, timeout=1.0) as conn:
            for i in range(10**9):
                message = bytes(SIZES[-1 - i % len(SIZES)])
                async with asyncio.timeout(TIMEOUT):
                    await conn.send(message)
                    self.answered(await conn.recv(), message)
                if self.over.is_set():
                    return


class Managed(Survivor):
    """A manager's connection, which is made again by itself."""

    def __enter__(self):
        self._manager = npipes.ClientManager(
            free_threading_events=True,
            reconnect=True,
            reconnect_delay=(0.005, 0.05),
            on_connected=self._begin,
            on_message=self._go_on,
            on_disconnected=lambda conn: self.ended(conn.error),
            on_error=self._failed,
        )
        self._manager.__enter__()
        self._manager.connect(self.name, timeout=TIMEOUT)
        return self

    def __exit__(self, *exc):
        self._manager.stop()

    def _begin(self, conn):
        conn.custom_data = 0
        self._write(conn)

    def _go_on(self, conn, data, cookie):
        self.answered(data, bytes(SIZES[conn.custom_data % len(SIZES)]))
        conn.custom_data += 1
        self._write(conn)

    def _write(self, conn):
        with contextlib.suppress(npipes.PipeClosedError):
            conn.write(bytes(SIZES[conn.custom_data % len(SIZES)]))

    def _failed(self, conn, error):
        if not is_end(error):
            self.wrong.append(repr(error))


def kill_servers(name, count, rng):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(kind(name)) for kind in (Blocking, Managed, OnLoop)]
        for number in range(count):
            before = [sum(client.ends.values()) for client in clients]
            with Process("serve", name, number):
                for client in clients:
                    assert eventually(lambda client=client: client.served_by == number), (
                        f"{type(client).__name__} is not served by server {number}: {client.ends}, {client.wrong}"
                    )
                a_while(rng)
            for client, ends in zip(clients, before):
                assert eventually(lambda client=client, ends=ends: sum(client.ends.values()) > ends), (
                    f"{type(client).__name__} has not seen the end of server {number}"
                )
                assert not client.wrong, f"{type(client).__name__}: {client.wrong}"
        return sum((client.ends for client in clients), Counter())


# ---- clients that are killed ----------------------------------------------


class Visit:
    """What a server knows of one connection."""

    def __init__(self):
        self.messages, self.has_ended, self.error = 0, False, None


class Witness(Tally):
    """Keeps the visits in their order."""

    def __init__(self):
        super().__init__()
        self.visits = []

    def on_connected(self, conn):
        super().on_connected(conn)
        conn.custom_data = Visit()
        self.visits.append(conn.custom_data)

    def on_message(self, conn, data, cookie):
        super().on_message(conn, data, cookie)
        conn.custom_data.messages += 1

    def on_disconnected(self, conn):
        super().on_disconnected(conn)
        conn.custom_data.error = conn.error
        conn.custom_data.has_ended = True


def kill_clients(name, count, rng):
    ends = Counter()
    for free, share in ((True, count - count // 2), (False, count // 2)):
        witness = Witness()
        server = witness.server(name, free)
        with server, in_run(server, free), npipes.connect(name) as bystander:
            assert bystander.call(b"x", timeout=TIMEOUT) == b"x"
            for number in range(share):
                with Process("visit", name, number):
                    assert eventually(lambda number=number: len(witness.visits) > number + 1), f"no client {number}"
                    killed = witness.visits[-1]
                    assert eventually(lambda killed=killed: killed.messages), f"client {number} is not served"
                    a_while(rng)
                assert bystander.call(b"x", timeout=TIMEOUT) == b"x"
                assert eventually(lambda killed=killed: killed.has_ended), f"client {number} has not ended"
                assert killed.error is None or is_end(killed.error), repr(killed.error)
                assert len(witness.visits) == number + 2 and not witness.visits[0].has_ended
                ends[type(killed.error).__name__] += 1
            bystander.close()
            server.stop()
        witness.check()
    return ends


# ---- measuring ------------------------------------------------------------


def run(kill, name, count, seed):
    kill(name, WARM_UP, random.Random(seed))
    handles, threads = handle_count(), thread_count()
    begin = time.monotonic()
    ends = kill(name, count, random.Random(seed))
    seconds = time.monotonic() - begin
    ok = eventually(lambda: thread_count() <= threads and handle_count() <= handles + SPARE_HANDLES, 5)
    how = ", ".join(f"{number} {'orderly' if end == 'NoneType' else end}" for end, number in sorted(ends.items()))
    print(
        f"{count} times killed by {kill.__name__} in {seconds:.0f} s: {how}; {handle_count() - handles} handles,"
        f" {thread_count() - threads} threads more{'' if ok else ', LEFT OVER'}",
        flush=True,
    )
    return ok


WAYS = {"server": kill_servers, "client": kill_clients}


def import_once():
    """Linux: processes are forks of one that has imported all of this, and has no threads."""
    if not WINDOWS:
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        forks.set_forkserver_preload([Path(__file__).stem])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2000, help="in all; default 2000")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []], metavar="WAY", help="server, client; default both")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    faulthandler.dump_traceback_later(3600, exit=True)
    import_once()
    ways = args.ways or list(WAYS)
    results = [run(WAYS[way], f"kills-{os.getpid()}-{way}", args.kills // len(ways), args.seed) for way in ways]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
