"""Many clients on one loop, for aio_many.py.

usage: clients_aio.py ADDRESS npipes|npipes-uvloop|asyncio-streams|uvloop-streams CLIENTS SECONDS

Goes on by a line of its input and prints a line when it is done: one client is
connected, all are, and then the round trips per second of all of them at once.
"""

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import npipes.aio

HEADER = struct.Struct("!i")
MESSAGE = bytes(64)

Call = Callable[[], Awaitable[bytes]]


async def dial_npipes(address: str) -> Call:
    conn = await npipes.aio.connect(address)

    async def call() -> bytes:
        await conn.send(MESSAGE)
        return await conn.recv()

    return call


async def dial_streams(address: str) -> Call:
    reader, writer = await asyncio.open_unix_connection(address)

    async def call() -> bytes:
        writer.write(HEADER.pack(len(MESSAGE)) + MESSAGE)
        await writer.drain()
        (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        return await reader.readexactly(size)

    return call


async def until_told() -> None:
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise SystemExit


async def ask(call: Call, end: float) -> int:
    now, count = asyncio.get_running_loop().time, 0
    while now() < end:
        if await call() != MESSAGE:
            raise SystemExit("an echo differs")
        count += 1
    return count


async def run(address: str, kind: str, clients: int, seconds: float) -> None:
    dial = dial_npipes if kind.startswith("npipes") else dial_streams
    calls: list[Call] = []
    for count in (1, clients):
        await until_told()
        while len(calls) < count:
            calls.append(await dial(address))
            await calls[-1]()  # its handler runs
        print("connected", flush=True)
    await until_told()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    counts = await asyncio.gather(*(ask(call, begin + seconds) for call in calls))
    print(sum(counts) / (loop.time() - begin), flush=True)
    await until_told()


def main() -> None:
    address, kind, clients, seconds = sys.argv[1:]
    factory: Callable[[], Any] | None = None
    if "uvloop" in kind:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(address, kind, int(clients), float(seconds)))


main()
