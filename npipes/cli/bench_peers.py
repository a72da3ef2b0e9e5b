"""The servers and clients that `npipes bench` measures.

Run as a program it is one echo server, in a process of its own: bench_peers KIND ADDRESS.  It says a line
when it is up, and ends when its standard input does.
"""

import asyncio
import os
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any, Protocol

import npipes
from npipes.cli.common import Failed

WAIT = 30.0  # seconds that anything here may take


class Peer(Protocol):
    """A client of an echo server."""

    def calls(self, message: bytes, until: Callable[[], bool], note: Callable[[], None]) -> None:
        """Round trips, with a note() after each, at least one and until until()."""

    def pipeline(self, messages: Sequence[bytes]) -> int:
        """Many messages sent, then as many received; how many bytes came."""

    def close(self) -> None: ...


class BlockingPeer:
    """The round trips of one that waits in its thread."""

    def call(self, message: bytes) -> bytes:
        """One round trip."""
        raise NotImplementedError

    def calls(self, message: bytes, until: Callable[[], bool], note: Callable[[], None]) -> None:
        call = self.call
        check_echo(message, call(message))
        note()
        while not until():
            call(message)
            note()


def check_echo(sent: bytes, came: bytes) -> None:
    if came != sent:
        raise Failed("what came back is not what was sent")


# ---- npipes --------------------------------------------------------------


def serve_npipes(address: str, ready: Callable[[], None]) -> None:
    def echo(conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        conn.write(data)

    with npipes.Server(address, free_threading_events=True, on_message=echo):
        ready()
        _wait_for_end()


class NpipesPeer(BlockingPeer):
    def __init__(self, address: str) -> None:
        self._client = npipes.connect(address, timeout=WAIT)

    def call(self, message: bytes) -> bytes:
        return self._client.call(message, timeout=WAIT)

    def pipeline(self, messages: Sequence[bytes]) -> int:
        self._client.send_many(messages, timeout=WAIT)
        count = size = 0
        while count < len(messages):
            got = self._client.recv_many(timeout=WAIT)
            count += len(got)
            size += sum(map(len, got))
        return size

    def close(self) -> None:
        self._client.close()


# ---- multiprocessing.connection ------------------------------------------


def serve_multiprocessing(address: str, ready: Callable[[], None]) -> None:
    with connection.Listener(address) as listener:
        threading.Thread(target=_echo_multiprocessing, args=(listener,), daemon=True).start()
        ready()
        _wait_for_end()


def _echo_multiprocessing(listener: connection.Listener) -> None:
    with listener.accept() as conn:
        try:
            while True:
                conn.send_bytes(conn.recv_bytes())
        except (EOFError, OSError):
            return


class MultiprocessingPeer(BlockingPeer):
    def __init__(self, address: str) -> None:
        self._client = connection.Client(address)

    def call(self, message: bytes) -> bytes:
        self._client.send_bytes(message)
        return self._client.recv_bytes()

    def pipeline(self, messages: Sequence[bytes]) -> int:
        for message in messages:
            self._client.send_bytes(message)
        return sum(len(self._client.recv_bytes()) for _ in messages)

    def close(self) -> None:
        self._client.close()


# ---- asyncio's streams, with a length before each message ----------------


async def _receive(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    return await reader.readexactly(length)


def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(struct.pack("!i", len(message)))
    writer.write(message)


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            _send(writer, await _receive(reader))
            await writer.drain()
    except (EOFError, OSError):
        pass
    finally:
        writer.close()


def serve_asyncio(address: str, ready: Callable[[], None]) -> None:
    asyncio.run(_serve_asyncio(address, ready))


if sys.platform == "win32":

    async def _serve_asyncio(address: str, ready: Callable[[], None]) -> None:
        loop: Any = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(1 << 26)
            return asyncio.StreamReaderProtocol(reader, _echo_stream)

        (server,) = await loop.start_serving_pipe(protocol, address)
        ready()
        await loop.run_in_executor(None, _wait_for_end)
        server.close()

    async def _connect_stream(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop: Any = asyncio.get_running_loop()
        reader = asyncio.StreamReader(1 << 26)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.create_pipe_connection(lambda: protocol, address)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

else:

    async def _serve_asyncio(address: str, ready: Callable[[], None]) -> None:
        async with await asyncio.start_unix_server(_echo_stream, address, limit=1 << 26):
            ready()
            await asyncio.get_running_loop().run_in_executor(None, _wait_for_end)

    async def _connect_stream(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(address, limit=1 << 26)


class AsyncioPeer:
    def __init__(self, address: str) -> None:
        self._runner = asyncio.Runner()
        self._reader, self._writer = self._runner.run(_connect_stream(address))

    def calls(self, message: bytes, until: Callable[[], bool], note: Callable[[], None]) -> None:
        self._runner.run(self._calls(message, until, note))

    async def _calls(self, message: bytes, until: Callable[[], bool], note: Callable[[], None]) -> None:
        check_echo(message, await self._call(message))
        note()
        while not until():
            await self._call(message)
            note()

    async def _call(self, message: bytes) -> bytes:
        _send(self._writer, message)
        await self._writer.drain()
        return await _receive(self._reader)

    def pipeline(self, messages: Sequence[bytes]) -> int:
        return self._runner.run(self._pipeline(messages))

    async def _pipeline(self, messages: Sequence[bytes]) -> int:
        for message in messages:
            _send(self._writer, message)
        await self._writer.drain()
        return sum([len(await _receive(self._reader)) for _ in messages])

    def close(self) -> None:
        self._runner.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass


SERVERS = {
    "npipes": serve_npipes,
    "multiprocessing": serve_multiprocessing,
    "asyncio": serve_asyncio,
}
CLIENTS: dict[str, Callable[[str], Peer]] = {
    "npipes": NpipesPeer,
    "multiprocessing": MultiprocessingPeer,
    "asyncio": AsyncioPeer,
}


def _wait_for_end() -> None:
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    SERVERS[sys.argv[1]](sys.argv[2], lambda: print("up", flush=True))
