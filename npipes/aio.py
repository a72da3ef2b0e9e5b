"""npipes for asyncio: connections whose messages are awaited.

    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    async with npipes.aio.serve(handler, "demo") as server:
        await server.serve_forever()

    async with npipes.aio.connect("demo") as conn:
        await conn.send(b"hello")
        print(await conn.recv())

Any event loop will do.  One that can watch descriptors does all the work in its own thread;
under Windows the engine's thread wakes it, once for each batch of what came.
"""

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from npipes._aio_engine import Engine, client_engine
from npipes._npipes import Connection, ConnectionClosed, PipeError, Stats
from npipes._npipes import Server as _EngineServer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Connection", "Server", "connect", "serve"]

_Handler = Callable[[Connection], Awaitable[object]]
_logger = logging.getLogger("npipes")


class Server:
    """What serve() returns: await it or enter it, and it runs.

    To be used on its loop's thread only.
    """

    def __init__(self, handler: "_Handler | _Events", options: dict[str, Any]) -> None:
        self._handler = handler
        self._options = options
        self._server: _EngineServer | None = None
        self._engine: Engine | None = None
        self._tasks: dict[asyncio.Task[Any], Connection] = {}
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "running" if self.is_running else "closed" if self._closing else "not started"
        return f"<npipes.aio.Server {self._options['name']!r}, {state}>"

    # ---- starting ------------------------------------------------------

    def _start(self) -> None:
        if self._server is not None:
            return
        handler = self._handler
        options = dict(self._options)
        if isinstance(handler, _Events) and handler.is_plain:
            options.update(handler.functions())
        else:
            options["on_connected"] = self._connected
        server = _EngineServer(**options)
        engine = Engine(server, self._tasks)
        engine.start()
        self._server = server
        self._engine = engine

    def _running(self) -> tuple[_EngineServer, Engine]:
        if self._server is None or self._engine is None:
            raise RuntimeError("the server is not started: await it, or enter it with async with")
        return self._server, self._engine

    async def _started(self) -> "Server":
        self._start()
        return self

    def __await__(self) -> Generator[Any, Any, "Server"]:
        return self._started().__await__()

    async def __aenter__(self) -> "Server":
        return await self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- what there is -------------------------------------------------

    @property
    def address(self) -> str:
        """The address the operating system knows."""
        return self._running()[0].address

    @property
    def is_running(self) -> bool:
        """From the start until close() is done."""
        return self._server is not None and self._server.is_running

    @property
    def connections(self) -> list[Connection]:
        """The connections at this moment."""
        return [] if self._server is None else list(self._server.connections)  # type: ignore[arg-type]

    @property
    def stats(self) -> Stats:
        """Counters, as those of npipes.Server."""
        return self._running()[0].stats

    def broadcast(self, data: "ReadableBuffer") -> int:
        """Send data to every connection and return how many took it.

        All share one copy.  Waits for nobody: a connection that has too much waiting misses it,
        and on_error hears of it.
        """
        return self._running()[0].broadcast(data)

    # ---- handlers ------------------------------------------------------

    def _connected(self, conn: Connection) -> None:
        engine = self._engine
        if engine is None or engine.is_abandoned:
            return
        try:
            task = engine.create_task(self._handler(conn))
        except BaseException:
            conn.close()
            raise
        self._tasks[task] = conn
        task.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Task[Any]) -> None:
        conn = self._tasks.pop(task)
        conn.close()
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._is_end(error, conn):
            self._running()[1].report("the handler", error, conn)

    def _is_end(self, error: BaseException, conn: Connection) -> bool:
        """The handler learned that its connection ended, which is no fault of its own."""
        if conn.error is None:
            return isinstance(error, ConnectionClosed)
        if not isinstance(error, PipeError) or str(error) != str(conn.error):
            return False
        if self._options["on_error"] is None:
            _logger.warning("%s", error)
        return True

    # ---- the end -------------------------------------------------------

    async def serve_forever(self) -> None:
        """Wait until the server is closed.  When it is cancelled it closes the server."""
        self._start()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            await self.close()
            raise

    def close(self, grace: float = 5.0) -> Awaitable[None]:
        """Begin to close; what is returned can be awaited for the end.

        No new connections.  Handlers still get the messages that have come, then the end, and
        what they send goes out.  Those that have not returned after grace seconds are cancelled.
        """
        if not grace >= 0:
            raise ValueError(f"grace must be at least 0 seconds, not {grace!r}")
        if self._closing is None:
            self._start()
            closer = asyncio.current_task()
            self._closing = self._running()[1].loop.create_task(self._close(grace, closer))
        return asyncio.shield(self._closing)

    async def wait_closed(self) -> None:
        """Wait until the server is closed."""
        await self._running()[1].wait_stopped()

    def _stop_listening(self) -> None:
        """No new connections; those that there are go on."""
        self._running()[0]._stop_listening()

    async def _close(self, grace: float, closer: asyncio.Task[Any] | None) -> None:
        server, engine = self._running()
        loop = engine.loop
        end = loop.time() + grace
        try:
            self._stop_listening()
            # What the engine has read is to be in the connections' queues.
            loop.call_soon(server._drive)
            await asyncio.sleep(0)
            for conn in self.connections:
                conn._finish_receiving()
            handlers = self._tasks.keys() - {closer}
            if handlers:
                await asyncio.wait(handlers, timeout=grace)
            own = self._tasks.get(closer) if closer else None
            for task in self._tasks.keys() - {closer}:
                task.cancel()
            await asyncio.sleep(0)
            rest = [conn for conn in self.connections if conn is not own]
            for conn in rest:
                conn.close()
            left = max(0.0, end - loop.time())
            if rest and left:
                await asyncio.wait([loop.create_task(_closed(c)) for c in rest], timeout=left)
        finally:
            await engine.stop()


async def _closed(conn: Connection) -> None:
    await conn.wait_closed()


def serve(
    handler: _Handler | None = None,
    name: "str | os.PathLike[str] | None" = None,
    *,
    on_connected: Callable[[Connection], object] | None = None,
    on_message: Callable[[Connection, bytes], object] | None = None,
    on_disconnected: Callable[[Connection], object] | None = None,
    on_error: Callable[[Connection | None, PipeError], object] | None = None,
    message_buffer_size: int = 131072,
    max_instances: int | None = None,
    listeners: int = 8,
    max_message_size: int = 67108864,
    message_timeout: float | None = 60.0,
    write_high_water: int | None = 1048576,
    max_pending_bytes: int = 67108864,
    access: str | int = "user",
    authkey: "ReadableBuffer | None" = None,
    max_handshakes: int = 128,
    mode: Literal["message", "byte"] = "message",
    kernel_buffer_size: int | None = None,
) -> Server:
    """A server of name, for `async with serve(...) as server` or `server = await serve(...)`.

    Every connection is given to handler, a coroutine function, in a task of its own; when it
    returns or raises, the connection is closed.  What it raises goes to the loop's exception
    handler.  Instead of a handler there may be functions or coroutine functions for events:
    on_message(conn, data) and the others.  Those of one connection never overlap.

    The other parameters are those of npipes.Server.  Starting raises what Server.start() raises.
    """
    if name is None:
        raise TypeError("serve() misses the argument 'name'")
    events = _Events(on_connected, on_message, on_disconnected)
    if handler is not None and events.is_any:
        raise TypeError("serve() takes a handler or functions for events, not both")
    if handler is None and on_message is None:
        raise TypeError("serve() needs a handler or on_message")
    for function in (handler, on_connected, on_message, on_disconnected, on_error):
        if function is not None and not callable(function):
            raise TypeError(f"a handler must be callable, not {function!r}")
    options = {
        "name": name,
        "message_buffer_size": message_buffer_size,
        "max_instances": max_instances,
        "listeners": listeners,
        "max_message_size": max_message_size,
        "message_timeout": message_timeout,
        "write_high_water": write_high_water,
        "max_pending_bytes": max_pending_bytes,
        "access": access,
        "authkey": authkey,
        "max_handshakes": max_handshakes,
        "mode": mode,
        "kernel_buffer_size": kernel_buffer_size,
        "on_error": on_error,
    }
    return Server(events if handler is None else handler, options)


class _Events:
    """A handler made of functions for events."""

    def __init__(
        self,
        on_connected: Callable[[Connection], object] | None,
        on_message: Callable[[Connection, bytes], object] | None,
        on_disconnected: Callable[[Connection], object] | None,
    ) -> None:
        self._connected = on_connected
        self._message = on_message
        self._disconnected = on_disconnected

    @property
    def is_any(self) -> bool:
        return any((self._connected, self._message, self._disconnected))

    @property
    def is_plain(self) -> bool:
        """Nothing is to be awaited: the engine calls the functions itself, without a task."""
        return not any(map(_is_coroutine_function, self.functions().values()))

    def functions(self) -> dict[str, Callable[..., object] | None]:
        return {
            "on_connected": self._connected,
            "on_message": self._message,
            "on_disconnected": self._disconnected,
        }

    async def __call__(self, conn: Connection) -> None:
        try:
            await _result(self._connected, conn)
            async for message in conn:
                await _result(self._message, conn, message)
        finally:
            await _result(self._disconnected, conn)


def _is_coroutine_function(function: Callable[..., object] | None) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))


async def _result(function: Callable[..., object] | None, *args: object) -> None:
    result = None if function is None else function(*args)
    if inspect.isawaitable(result):
        await result


def _as_bytes(authkey: "ReadableBuffer | None") -> bytes | None:
    """One that can be a part of a dictionary's key; what is wrong with it is never shown."""
    if authkey is None:
        return None
    try:
        return bytes(memoryview(authkey))
    except TypeError:
        raise TypeError(f"authkey must be bytes-like or None, not of type {type(authkey).__name__}") from None


class connect:
    """Connect to the server of name: `async with connect(...) as conn`, `conn = await connect(...)`.

    Waits at most timeout seconds (None: no limit) until there is a server with a free instance;
    then it raises PipeNotFoundError or PipeBusyError, and AccessDeniedError when this user, or
    the server's, is not the right one.  The other parameters are those of npipes.ClientManager.
    """

    def __init__(
        self,
        name: "str | os.PathLike[str]",
        *,
        timeout: float | None = 5.0,
        authkey: "ReadableBuffer | None" = None,
        message_buffer_size: int = 131072,
        max_message_size: int = 67108864,
        message_timeout: float | None = 60.0,
        write_high_water: int | None = 1048576,
        max_pending_bytes: int = 67108864,
        mode: Literal["message", "byte"] = "message",
        kernel_buffer_size: int | None = None,
        server_owner: Literal["user"] | None = None,
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._options = {
            "authkey": _as_bytes(authkey),
            "message_buffer_size": message_buffer_size,
            "max_message_size": max_message_size,
            "message_timeout": message_timeout,
            "write_high_water": write_high_water,
            "max_pending_bytes": max_pending_bytes,
            "mode": mode,
            "kernel_buffer_size": kernel_buffer_size,
            "server_owner": server_owner,
        }
        self._connection: Connection | None = None

    async def _connected(self) -> Connection:
        conn = client_engine(self._options).connect(self._name, self._timeout)
        try:
            await conn._wait_opened()
        except BaseException:
            conn.close()
            raise
        return conn

    def __await__(self) -> Generator[Any, Any, Connection]:
        return self._connected().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connection is not None
        await self._connection.close()
