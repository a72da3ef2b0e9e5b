#!/usr/bin/env python3
"""A soak: every kind of server under every kind of client, for as long as asked.

    python tests/stress/soak.py [--seconds S] [--seed N] [--clients N]

Clients connect, send messages of all sizes, check every byte that comes back and its place, and leave: in order,
or in the middle of everything.  Servers broadcast meanwhile.  At the end every event must have come as often as
it should, every thread have ended, and memory and descriptors be where they were.  Exit code 1 when not.
"""

import argparse
import contextlib
import faulthandler
import gc
import os
import random
import sys
import threading
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]

from clients import AioClient, BlockingClient, ManagerClient
from servers import AioServer, EventServer
from resources import handle_count, release_free_memory, resident_bytes, use_one_heap
from support import FREE_THREADED, eventually, thread_count

WARM_UP = 0.2  # of the time: what is kept for good has been allocated by then
# What an allocator may keep beyond that.
MEMORY = (96 if FREE_THREADED else 12 if sys.platform != "win32" else 48) << 20
SPARE_HANDLES = 40 if sys.platform == "win32" else 0  # the system's libraries keep some of their own
PATIENCE = 120


class Soak:
    """What the clients and servers of a soak share."""

    def __init__(self, seconds, seed):
        self.failures = []
        self.counts = {}
        self._lock = threading.Lock()
        self.go_on(seconds, seed)

    def go_on(self, seconds, seed):
        self.seed = seed
        self.end = time.monotonic() + seconds

    def is_over(self):
        return bool(self.failures) or time.monotonic() > self.end

    def fail(self, who, what):
        with self._lock:
            self.failures.append(f"{who}: {what}")

    def count(self, **numbers):
        with self._lock:
            for name, number in numbers.items():
                self.counts[name] = self.counts.get(name, 0) + number


def make_servers(soak):
    prefix = f"soak-{os.getpid()}"
    return [
        EventServer(soak, f"{prefix}-free", free_threading_events=True),
        EventServer(soak, f"{prefix}-threads", free_threading_events=True, threads=3),
        EventServer(soak, f"{prefix}-run"),
        EventServer(soak, f"{prefix}-few", free_threading_events=True, max_instances=4),
        AioServer(soak, f"{prefix}-aio"),
    ]


def run(soak, clients):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server) for server in make_servers(soak)]
        kinds = [BlockingClient, ManagerClient, AioClient]
        threads = []
        for number in range(clients):
            client = kinds[number % len(kinds)](soak, servers, random.Random(f"{soak.seed}-{number}"))
            threads.append(threading.Thread(target=guarded, args=(soak, client), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, soak.end - time.monotonic()) + PATIENCE)
        if any(thread.is_alive() for thread in threads):
            faulthandler.dump_traceback()
            soak.fail("soak", "a client hangs")
            return
        for server in servers:
            server.check()
    if not eventually(lambda: thread_count() == 1, 10):
        soak.fail("soak", f"{thread_count() - 1} threads have not ended")


def soak_twice(seconds, seed, clients):
    """The first, shorter one allocates what is kept for good; the second must leave no more."""
    soak = Soak(WARM_UP * seconds, f"{seed}-warm-up")
    run(soak, clients)
    handles, memory = at_rest()
    soak.go_on((1 - WARM_UP) * seconds, seed)
    run(soak, clients)
    if not eventually(lambda: handle_count() <= handles + SPARE_HANDLES, 10):
        soak.fail("soak", f"{handle_count()} descriptors or handles, {handles} before")
    more = at_rest()[1] - memory
    soak.count(KiB_more_at_the_end=more >> 10)
    if more > MEMORY:
        soak.fail("soak", f"{more >> 20} MiB more than before")
    return soak


def at_rest():
    gc.collect()
    release_free_memory()
    return handle_count(), resident_bytes()


def guarded(soak, client):
    try:
        client.run()
    except BaseException:
        soak.fail(client, traceback.format_exc())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--clients", type=int, default=15)
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.clients} clients", flush=True)
    use_one_heap()
    unraisable = []
    sys.unraisablehook = lambda info: unraisable.append(f"{info.object}: {info.exc_value!r}")
    soak = soak_twice(args.seconds, args.seed, args.clients)
    for failure in [*soak.failures, *unraisable]:
        print(f"FAILED {failure}", flush=True)
    print(", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(soak.counts.items())), flush=True)
    return 1 if soak.failures or unraisable else 0


if __name__ == "__main__":
    sys.exit(main())
