"""A room under asyncio: the first message of a client is its name, every other goes to all.

python aio_chat.py serve [NAME]
python aio_chat.py join WHO [NAME]      what is typed is said, until the input ends
python aio_chat.py --check
"""

import asyncio
import contextlib
import os
import sys

import npipes.aio


class Room:
    def __init__(self, name):
        self.server = npipes.aio.serve(self._welcome, name)

    async def _welcome(self, conn):
        who = await conn.recv()
        self.server.broadcast(who + b" has come")
        try:
            async for said in conn:
                self.server.broadcast(who + b": " + said)
        finally:
            self.server.broadcast(who + b" has left")


async def join(who, name, lines, hear):
    """Says what `lines` gives and calls hear(line) for what is said, until either side ends."""
    async with npipes.aio.connect(name) as conn, asyncio.TaskGroup() as group:
        await conn.send(who.encode())
        listening = group.create_task(listen(conn, hear))
        async for line in lines:
            await conn.send(line.encode())
        listening.cancel()


async def listen(conn, hear):
    async for line in conn:
        hear(line.decode(errors="replace"))
    raise EOFError("the room is closed")  # ends the whole group


async def typed_lines():
    """The lines of the input; a thread waits for each."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.rstrip("\n")


async def lines_of(queue):
    while (line := await queue.get()) is not None:
        yield line


async def check():
    name = f"room-{os.getpid()}"
    ann_says, bob_says = asyncio.Queue(), asyncio.Queue()
    ann_hears, bob_hears = asyncio.Queue(), asyncio.Queue()
    async with asyncio.timeout(20), Room(name).server:
        async with asyncio.TaskGroup() as group:
            group.create_task(join("Ann", name, lines_of(ann_says), ann_hears.put_nowait))
            assert await ann_hears.get() == "Ann has come"
            group.create_task(join("Bob", name, lines_of(bob_says), bob_hears.put_nowait))
            assert await ann_hears.get() == "Bob has come" == await bob_hears.get()
            await ann_says.put("hello")
            assert await ann_hears.get() == "Ann: hello" == await bob_hears.get()
            await bob_says.put(None)
            assert await ann_hears.get() == "Bob has left"
            await ann_says.put(None)


async def main(role, *args):
    if role == "serve":
        async with Room(*args or ["demo"]).server as server:
            print("open on", server.address)
            await server.serve_forever()
    else:
        who, name = (*args, "demo")[:2]
        try:
            await join(who, name, typed_lines(), print)
        except* EOFError as errors:
            print(*errors.exceptions, "(Enter leaves)")


if __name__ == "__main__":
    if "--check" in sys.argv:
        asyncio.run(check())
    else:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main(*sys.argv[1:]))
