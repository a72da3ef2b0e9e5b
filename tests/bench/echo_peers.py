"""Echo servers of others, with the framing of multiprocessing.connection.

usage: echo_peers.py ADDRESS uvloop|asyncio|multiprocessing
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


async def serve(address: str) -> None:
    loop = asyncio.get_running_loop()
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
    if kind == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(address))
    asyncio.run(serve(address))


main()
