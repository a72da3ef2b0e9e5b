"""Echo server of npipes.aio.

usage: echo_aio.py ADDRESS async-for|callback|async-for-uvloop|callback-uvloop
"""

import asyncio
import sys

import npipes.aio


async def echo(conn: npipes.aio.Connection) -> None:
    async for message in conn:
        await conn.send(message)


def answer(conn: npipes.aio.Connection, data: bytes) -> None:
    conn.send_nowait(data)


async def serve(address: str, callback: bool) -> None:
    if callback:
        server = npipes.aio.serve(name=address, on_message=answer)
    else:
        server = npipes.aio.serve(echo, address)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


def main() -> None:
    address, kind = sys.argv[1:]
    factory = None
    if kind.endswith("-uvloop"):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(address, kind.startswith("callback")))


main()
