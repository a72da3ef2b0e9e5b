"""A tunnel between two bridges, beside nats-py's own publish/subscribe and request/reply.

Five processes: a client, the bridge beside it, the NATS server, the bridge beside the server, and the server; of nats-py's
own, three.  All are up during the whole run, and the two kinds take turns, so that what the machine does meanwhile falls
on both.  The figures are medians over the rounds, the ratio is the median of the rounds' ratios.  "small" is messages of 64
bytes one after the other in one direction, "1 MiB" likewise, "round trip" a request of 64 bytes and its reply.

    python tests/bench/bridge.py [--rounds N] [--small N] [--large N] [--trips N]

Goals: small at least 0.5 of nats-py's message rate, 1 MiB at least 0.8 of its bytes, a round trip at most 1.5 times its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import nats

import npipes.aio


# ---- the other processes ---------------------------------------------------


async def count_and_answer(url: str) -> None:
    """A server on both: counts messages up to one that begins with 'end', and answers that one."""

    async def handler(conn: npipes.aio.Connection) -> None:
        async for message in conn:
            if message.startswith((b"end", b"ask")):
                await conn.send(message)

    client = await nats.connect(url)

    async def take(message: nats.aio.msg.Msg) -> None:
        if message.reply:
            await message.respond(message.data)

    await client.subscribe("bench", cb=take)
    async with npipes.aio.serve(handler, "bench"):
        await asyncio.Event().wait()


def commands(url: str) -> list[list[str]]:
    """The server of both, and the two bridges as a user starts them."""
    bridge = [sys.executable, "-m", "npipes", "bridge"]
    return [
        [sys.executable, __file__, "--serve", url],
        [*bridge, "serve", "bench", "--quiet", "--nats", url],
        [*bridge, "connect", "bench", "--quiet", "--pipe", "bench-far", "--nats", url],
    ]


# ---- the loads ---------------------------------------------------------------


async def over_bridge(conn: npipes.aio.Connection, data: bytes, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        await conn.send(data)
    await conn.send(b"end")
    assert await conn.recv() == b"end"
    return count / (time.perf_counter() - begin)


async def over_nats(client: nats.aio.client.Client, data: bytes, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        await client.publish("bench", data)
    await client.request("bench", b"end", timeout=60)
    return count / (time.perf_counter() - begin)


async def trips_over_bridge(conn: npipes.aio.Connection, count: int) -> float:
    data = b"ask".ljust(64)
    begin = time.perf_counter()
    for _ in range(count):
        await conn.call(data)
    return (time.perf_counter() - begin) / count


async def trips_over_nats(client: nats.aio.client.Client, count: int) -> float:
    data = b"ask".ljust(64)
    begin = time.perf_counter()
    for _ in range(count):
        await client.request("bench", data, timeout=60)
    return (time.perf_counter() - begin) / count


async def measure(url: str, args: argparse.Namespace) -> None:
    client = await nats.connect(url)
    conn = await npipes.aio.connect("bench-far", timeout=10)
    small, large = bytes(64), bytes(1 << 20)
    loads = {
        "small": (lambda: over_bridge(conn, small, args.small), lambda: over_nats(client, small, args.small)),
        "1 MiB": (lambda: over_bridge(conn, large, args.large), lambda: over_nats(client, large, args.large)),
        "round trip": (lambda: trips_over_bridge(conn, args.trips), lambda: trips_over_nats(client, args.trips)),
    }
    goals = {"small": "at least 0.5", "1 MiB": "at least 0.8", "round trip": "at most 1.5"}
    units = {"small": (1, "msg/s"), "1 MiB": (1, "MiB/s"), "round trip": (1e6, "us")}
    await trips_over_bridge(conn, 200)
    await trips_over_nats(client, 200)
    print(f"{'':12}{'bridge':>12}{'nats-py':>12}         ratio (least, most)     goal")
    for name, (ours, theirs) in loads.items():
        pairs = []
        for turn in range(args.rounds):
            if turn % 2:
                b = await theirs()
                pairs.append((await ours(), b))
            else:
                a = await ours()
                pairs.append((a, await theirs()))
        scale, unit = units[name]
        a, b = (scale * statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{name:12}{a:12.0f}{b:12.0f} {unit:7}{statistics.median(ratios):6.2f}"
            f" ({ratios[0]:.2f}, {ratios[-1]:.2f})         {goals[name]}",
            flush=True,
        )
    await conn.close()
    await client.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", type=int, default=20000)
    parser.add_argument("--large", type=int, default=100)
    parser.add_argument("--trips", type=int, default=1000)
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(count_and_answer(args.serve))
        return
    program = shutil.which("nats-server")
    if program is None:
        sys.exit("there is no nats-server")
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as directory:
        os.environ["NPIPES_DIR"] = directory
        command = [program, "-a", "127.0.0.1", "-p", str(port)]
        processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL)]
        try:
            for _ in range(500):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.01)
            for command in commands(url):
                processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            asyncio.run(measure(url, args))
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait()


if __name__ == "__main__":
    main()
