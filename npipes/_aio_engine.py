"""An endpoint of the engine on an event loop: starting, watching, and every way it can end."""

import asyncio
import contextlib
import inspect
import os
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from npipes._aio_wake import packets_to
from npipes._npipes import ClientManager, Connection, Server

__all__ = ["Engine", "client_engine"]

_YEAR = 365 * 86400.0


class Engine:
    """Drives a Server or ClientManager from the loop that runs now."""

    def __init__(self, endpoint: Server | ClientManager, tasks: dict[asyncio.Task[Any], Connection]) -> None:
        self.loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._tasks = tasks
        self._driven = _can_watch(self.loop)
        self._descriptor = -1
        self.is_abandoned = False
        self._anchor: Callable[[], asyncio.TimerHandle | None] | None = None
        self._stopped: asyncio.Future[None] = self.loop.create_future()
        endpoint._attach(self.loop, self._driven, self.report, self._ended)
        self._packets = None if self._driven else packets_to(self.loop, endpoint)

    def start(self) -> None:
        self._endpoint.start()
        if self._driven:
            self._descriptor = self._endpoint.fileno()
            self.loop.add_reader(self._descriptor, self._endpoint._drive)
        self._drop_anchor(_Anchor(self))

    def _drop_anchor(self, anchor: "_Anchor") -> None:
        # Only the loop keeps it.
        self._anchor = weakref.ref(self.loop.call_later(_YEAR, anchor))

    def create_task(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work if asyncio.iscoroutine(work) else _await(work))
        # One that is destroyed is a dropped loop's, and in which order its parts go nobody knows.
        with contextlib.suppress(AttributeError):  # another library's kind of task
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    def report(self, what: str, error: BaseException, conn: Connection | None) -> None:
        of = f" of {conn!r}" if conn is not None else ""
        context = {"message": f"npipes: {what}{of} failed", "exception": error, "connection": conn}
        self.loop.call_exception_handler(context)

    async def stop(self) -> None:
        # What resumed this task may be a drive of the endpoint, which can't stop inside it.
        await asyncio.sleep(0)
        self.stop_now()

    def stop_now(self) -> None:
        """Ends the endpoint; it waits for nobody.  Not inside a drive."""
        if self._anchor is None:
            return
        anchor, self._anchor = self._anchor(), None
        if self._driven and not self.loop.is_closed():
            self.loop.remove_reader(self._descriptor)
        self._endpoint.stop()
        if self._packets is not None:
            self._packets.close()
        if anchor is not None:
            anchor.cancel()
        if not self._stopped.done() and not self.loop.is_closed():
            self._stopped.set_result(None)

    async def wait_stopped(self) -> None:
        await asyncio.shield(self._stopped)

    def abandoned(self) -> None:
        """The loop was closed, or dropped, with all that it had yet to do."""
        if self._anchor is None:  # it was stopped before
            return
        self.is_abandoned = True
        for task in self._tasks:
            work = task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()
        self.stop_now()

    def _ended(self, conn: Connection) -> None:
        """A connection that was dialed is over."""


class _Anchor:
    """Goes when the loop goes: a loop that is closed drops its timers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self) -> None:
        self._engine._drop_anchor(self)

    def __del__(self) -> None:
        self._engine.abandoned()


async def _await(work: Awaitable[Any]) -> Any:
    if not inspect.isawaitable(work):
        raise TypeError(f"the handler must be a coroutine function (async def); it returned {work!r}")
    return await work


def _can_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop takes the engine's descriptor; Windows has none."""
    if os.name == "nt":
        return False
    reading, writing = os.pipe()
    try:
        loop.add_reader(reading, lambda: None)
        loop.remove_reader(reading)
    except NotImplementedError:
        return False
    finally:
        os.close(reading)
        os.close(writing)
    return True


# ---- the client side ---------------------------------------------------------


class ClientEngine(Engine):
    """All connections of a loop that have the same options; it ends with the last of them."""

    def __init__(self, manager: ClientManager, key: "_Key") -> None:
        super().__init__(manager, {})
        self._manager = manager
        self._key = key
        self._count = 0

    def connect(self, name: "str | os.PathLike[str]", timeout: float | None) -> Connection:
        conn: Connection = self._manager.connect(name, timeout=timeout)  # type: ignore[assignment]
        self._count += 1
        return conn

    def _ended(self, conn: Connection) -> None:
        self._count -= 1
        if not self._count and not self.loop.is_closed():
            self.loop.call_soon(self._stop_idle)

    def _stop_idle(self) -> None:
        if not self._count:
            if _clients.get(self._key) is self:
                del _clients[self._key]
            self.stop_now()


_Key = tuple[int, frozenset[tuple[str, Any]]]
_clients: "weakref.WeakValueDictionary[_Key, ClientEngine]" = weakref.WeakValueDictionary()


def client_engine(options: dict[str, Any]) -> ClientEngine:
    """The running loop's for these options."""
    loop = asyncio.get_running_loop()
    key = (id(loop), frozenset(options.items()))
    engine = _clients.get(key)
    if engine is None or engine.loop is not loop or engine._anchor is None:
        engine = ClientEngine(ClientManager(**options), key)
        engine.start()
        _clients[key] = engine
    return engine
