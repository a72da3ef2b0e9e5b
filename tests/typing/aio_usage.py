"""What a type checker must accept of npipes.aio, and, where a line ignores an error, refuse.

Read by mypy and pyright, never run.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import npipes
import npipes.aio
from npipes.aio import Connection, connect, serve

# ---- a server ---------------------------------------------------------------


async def echo(conn: Connection) -> None:
    async for message in conn:
        assert_type(message, bytes)
        await conn.send(message)


class Handler:
    async def __call__(self, conn: Connection) -> int:
        return len(await conn.recv())


def not_awaited(conn: Connection) -> None: ...


async def run_servers() -> None:
    async with serve(echo, "demo") as server:
        assert_type(server, npipes.aio.Server)
        assert_type(server.address, str)
        assert_type(server.is_running, bool)
        assert_type(server.connections, list[Connection])
        assert_type(server.stats, npipes.Stats)
        assert_type(server.broadcast(bytearray(b"news")), int)
        server.broadcast("news")  # type: ignore[arg-type]
        server.address = "x"  # type: ignore[misc]
        await server.serve_forever()
    server = await serve(Handler(), Path("demo"), max_instances=4, access=0o660, mode="byte")
    server.close(grace=1)
    await server.close()
    await server.wait_closed()
    serve(echo, "demo", authkey=bytearray(b"key"), message_timeout=None, max_handshakes=5)
    serve(echo, "demo", authkey="key")  # type: ignore[arg-type]
    serve(echo, "demo", mode="stream")  # type: ignore[arg-type]
    serve(echo, b"demo")  # type: ignore[arg-type]
    serve(not_awaited, "demo")  # type: ignore[arg-type]
    serve(echo, "demo", 5)  # type: ignore[call-arg, arg-type]


# ---- events -------------------------------------------------------------------


def answer(conn: Connection, data: bytes) -> None:
    conn.send_nowait(data)


async def answer_later(conn: Connection, data: bytes) -> None:
    await conn.send(data)


def tell(conn: Connection | None, error: npipes.PipeError) -> None: ...


serve(name="demo", on_message=answer, on_connected=not_awaited, on_error=tell)
serve(name="demo", on_message=answer_later, on_disconnected=echo)
serve(name="demo", on_message=not_awaited)  # type: ignore[arg-type]

# ---- a connection ---------------------------------------------------------------


async def talk() -> int:
    conn = await connect("demo", timeout=None, max_message_size=1 << 20, server_owner="user")
    assert_type(conn, Connection)
    async with connect(Path("/run/demo")) as conn:
        assert_type(conn, Connection)
        assert_type(await conn.recv(), bytes)
        assert_type(await conn.call(memoryview(b"x")), bytes)
        await conn.send(b"x")
        await conn.send("x")  # type: ignore[arg-type]
        await conn.drain()
        conn.send_nowait(bytearray(b"x"))
        await conn.send_nowait(b"x")  # type: ignore[func-returns-value, misc]
        conn.custom_data = {"seen": 0}
        assert_type(conn.custom_data, Any)
        assert_type(conn.address, str)
        assert_type(conn.handle, int)
        assert_type(conn.is_connected, bool)
        assert_type(conn.pending_bytes, int)
        assert_type(conn.error, npipes.PipeError | None)
        assert_type(conn.peer, npipes.Peer)
        conn.peer = None  # type: ignore[misc, assignment]
        conn.recv()  # type: ignore[unused-coroutine]
        conn.close()
        await conn.close()
        await conn.wait_closed()
    connect("demo", authkey=b"key", message_timeout=2.5)
    connect("demo", 5)  # type: ignore[call-arg]
    connect(b"demo")  # type: ignore[arg-type]
    async with connect("demo") as conn, conn as same:
        assert_type(same, Connection)
        return 1  # a checker knows that neither block swallows exceptions


# ---- asyncio's own functions ------------------------------------------------------


async def combine(conn: Connection, other: Connection) -> None:
    assert_type(await asyncio.wait_for(conn.recv(), 1), bytes)
    task = asyncio.create_task(conn.recv())
    assert_type(task, asyncio.Task[bytes])
    assert_type(await asyncio.gather(conn.recv(), other.call(b"x")), tuple[bytes, bytes])
    assert_type(await asyncio.shield(conn.call(b"x")), bytes)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        asked = group.create_task(conn.call(b""))
        group.create_task(conn.close())
    assert_type(asked.result(), bytes)
    first = await anext(conn)
    assert_type(first, bytes)
    assert_type([len(message) async for message in conn], list[int])
    as_messages(conn)


def as_messages(messages: AsyncIterator[bytes]) -> None: ...


async def catch(conn: Connection) -> None:
    with contextlib.suppress(npipes.ConnectionClosed, EOFError):
        await conn.recv()


class Mine(Connection): ...  # type: ignore[misc]


asyncio.run(run_servers())
asyncio.run(talk())
