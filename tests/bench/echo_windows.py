"""Echo servers on Windows.

usage: echo_windows.py PIPE free|run|multiprocessing|proactor|proactor-streams

Prints "ready" when it listens.
"""

import asyncio
import sys
import threading
from multiprocessing.connection import Connection, Listener
from typing import cast


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def stream_protocol() -> asyncio.StreamReaderProtocol:
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo)


async def serve_proactor(address: str, streams: bool) -> None:
    loop = asyncio.get_running_loop()
    factory = stream_protocol if streams else Echo
    await loop.start_serving_pipe(factory, address)  # type: ignore[attr-defined]
    print("ready", flush=True)
    await asyncio.Event().wait()


def answer(connection: Connection) -> None:
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except (EOFError, OSError):
        connection.close()


def serve_multiprocessing(address: str) -> None:
    with Listener(address, "AF_PIPE") as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()


def serve_npipes(address: str, free: bool) -> None:
    import npipes

    server = npipes.Server(address, free_threading_events=free)

    @server.event
    def on_message(conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        conn.write(data)

    with server:
        print("ready", flush=True)
        server.run()


def main() -> None:
    address, kind = sys.argv[1:]
    if kind == "multiprocessing":
        serve_multiprocessing(address)
    elif kind.startswith("proactor"):
        asyncio.run(serve_proactor(address, kind == "proactor-streams"))
    else:
        serve_npipes(address, kind == "free")


main()
