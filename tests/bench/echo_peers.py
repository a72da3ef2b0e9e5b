"""Echo servers of others, with the framing of multiprocessing.connection.

usage: echo_peers.py ADDRESS uvloop|asyncio|uvloop-streams|asyncio-streams|multiprocessing
"""

import asyncio
import struct
import sys
import threading
from multiprocessing.connection import Connection, Listener
from typing import cast

HEADER = struct.Struct("!i")


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.pending = bytearray()

    def data_received(self, data: bytes) -> None:
        self.pending += data
        at, out = 0, []
        while len(self.pending) - at >= HEADER.size:
            (size,) = HEADER.unpack_from(self.pending, at)
            end = at + HEADER.size + size
            if len(self.pending) < end:
                break
            message = bytes(self.pending[at + HEADER.size : end])
            out += [HEADER.pack(len(message)), message]
            at = end
        del self.pending[:at]
        if out:
            self.transport.writelines(out)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
            message = await reader.readexactly(size)
            writer.write(HEADER.pack(len(message)) + message)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(address: str, streams: bool) -> None:
    loop = asyncio.get_running_loop()
    server: asyncio.AbstractServer
    if streams:
        server = await asyncio.start_unix_server(echo, address, backlog=4096, limit=1 << 24)
    else:
        server = await loop.create_unix_server(Echo, address, backlog=4096)
    await server.serve_forever()


def answer(connection: Connection) -> None:
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except (EOFError, OSError):
        connection.close()


def main() -> None:
    address, kind = sys.argv[1:]
    if kind == "multiprocessing":
        listener = Listener(address, "AF_UNIX", backlog=4096)
        while True:
            threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()
    loop, _, streams = kind.partition("-")
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(address, bool(streams)))


main()
