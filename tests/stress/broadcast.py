#!/usr/bin/env python3
"""How long broadcasts take to arrive, with and without clients that never read.

    python tests/stress/broadcast.py [--clients N] [--stalled N] [--messages N] [--rounds N] [--slack MS]

A server in this process, the clients in another.  The rounds with and without clients that never read take turns;
the exit code is 1 when the 99th percentile of the delays is more than twice as long with them, by the medians of the
rounds, or when a message did not arrive in its place.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import npipes

STAMP = struct.Struct("!IQ")
SIZE = 1024
INTERVAL = 0.02
PATIENCE = 120


def broadcast(clients, stalled, messages):
    """One round: the delays of what `clients` received, in milliseconds, while `stalled` more received nothing."""
    everybody = threading.Semaphore(0)
    with npipes.Server(
        f"broadcast-{os.getpid()}",
        free_threading_events=True,
        listeners=64,
        max_pending_bytes=16 << 20,
        on_connected=lambda conn: everybody.release(),
        on_error=lambda conn, error: None,
    ) as server:
        receiver = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).resolve()),
                "--receive",
                server.name,
                "--clients",
                str(clients),
                "--stalled",
                str(stalled),
                "--messages",
                str(messages),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(clients + stalled):
            if not everybody.acquire(timeout=PATIENCE):
                raise TimeoutError("not all clients have connected")
        begin = time.perf_counter()
        for number in range(messages):
            time.sleep(max(0.0, begin + number * INTERVAL - time.perf_counter()))
            data = STAMP.pack(number, time.perf_counter_ns()) + bytes(SIZE - STAMP.size)
            if server.broadcast(data) != clients + stalled:
                raise RuntimeError("a client is missing")
        text, _ = receiver.communicate(timeout=PATIENCE)
    if receiver.returncode:
        raise RuntimeError(f"the clients ended with {receiver.returncode}")
    return json.loads(text)


def receive(name, clients, stalled, messages):
    """In the other process: prints percentiles of the delays when every message has arrived everywhere."""
    delays, next_of, done, wrong = [], {}, threading.Semaphore(0), []

    def on_messages(conn, batch):
        now = time.perf_counter_ns()
        for data in batch:
            number, sent = STAMP.unpack_from(data)
            if number != next_of.setdefault(conn, 0):
                wrong.append((number, next_of[conn]))
            next_of[conn] = number + 1
            delays.append(now - sent)
        if next_of[conn] == messages:
            done.release()

    with (
        npipes.ClientManager(free_threading_events=True, on_messages=on_messages) as readers,
        npipes.ClientManager(free_threading_events=True, continuous_read=False) as others,
    ):
        for manager, count in (readers, clients), (others, stalled):
            for _ in range(count):
                manager.connect(name, timeout=PATIENCE)
        for _ in range(clients):
            if not done.acquire(timeout=PATIENCE):
                raise TimeoutError("not all messages have arrived")
        sys.stdin.read()  # the last broadcast may have others yet to reach
    delays.sort()
    print(json.dumps({str(p): delays[int(len(delays) * p / 100) - 1] / 1e6 for p in (50, 99, 99.9)}))
    return 1 if wrong or len(delays) != clients * messages else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=990)
    parser.add_argument("--stalled", type=int, default=10)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slack", type=float, default=0, metavar="MS", help="what a busy machine may add to it")
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        return receive(args.receive, args.clients, args.stalled, args.messages)
    results = {stalled: [] for stalled in (0, args.stalled)}
    for _ in range(args.rounds):
        for stalled, rounds in results.items():
            rounds.append(broadcast(args.clients, stalled, args.messages))
            figures = ", ".join(f"p{p} {value:.1f} ms" for p, value in rounds[-1].items())
            print(f"{args.clients} clients, {stalled} more that never read: {figures}", flush=True)
    medians = [statistics.median(r["99"] for r in rounds) for rounds in results.values()]
    print(f"p99 {medians[0]:.1f} ms without, {medians[1]:.1f} ms with them")
    return 1 if medians[1] > 2 * medians[0] + args.slack else 0


if __name__ == "__main__":
    sys.exit(main())
