"""What runs beside a server or its clients: its start, its tasks, its end."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Coroutine, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from .errors import NatsLostError
from .nats_link import NatsLink
from .peers import host_name
from .subjects import Subjects

__all__ = ["Endpoint", "Options"]


@dataclasses.dataclass(kw_only=True)
class Options:
    """What the functions that make an endpoint were given."""

    pipe: str
    nats: str | Sequence[str]
    nats_options: Mapping[str, Any]
    prefix: str
    heartbeat: float
    timeout: float
    max_message_size: int

    def check(self) -> None:
        if not 0.05 <= self.heartbeat <= 3600:
            raise ValueError(f"heartbeat must be 0.05 to 3600 seconds, not {self.heartbeat!r}")
        if not self.timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {self.timeout!r}")
        if not 1 <= self.max_message_size < 1 << 31:
            raise ValueError(f"max_message_size must be 1 byte to 2 GiB, not {self.max_message_size!r}")


class Endpoint:
    """One end: await it or enter it, and it runs.

    To be used on its loop's thread only.
    """

    _role = ""

    def __init__(self, name: str, options: Options) -> None:
        options.check()
        self.name = name
        self.subjects = Subjects(name, options.prefix)
        self.host = host_name()
        self._common = options
        self._started = False
        self._closing: asyncio.Task[None] | None = None
        self._error: NatsLostError | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        state = "closed" if self._closing else "running" if self._started else "not started"
        return f"<npipes.bridge.{type(self).__name__} {self.name!r}, {state}>"

    # ---- starting ------------------------------------------------------------

    async def start(self) -> Self:
        """Connect to NATS and begin.  Raises NatsLostError, and what the local side raises."""
        if self._started:
            return self
        self.loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self.link = NatsLink(
            self._common.nats,
            self._common.nats_options,
            label=f"npipes bridge {self._role} {self.name} on {self.host}",
            heartbeat=self._common.heartbeat,
            on_back=self._back,
            on_gone=self._gone,
        )
        await self.link.open(self._common.timeout)
        self._started = True
        try:
            await self._open()
        except BaseException:
            await self._stop(0)
            self._started = False
            raise
        return self

    async def _open(self) -> None:
        """Subscribes, and opens the local side."""
        raise NotImplementedError

    async def _stop(self, grace: float) -> None:
        """Ends all that _open() began, whether it came to its end or not."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """What it did so far, in a line for people."""
        raise NotImplementedError

    def _back(self) -> None:
        """There is a connection to NATS again."""

    def _gone(self, error: NatsLostError) -> None:
        self._error = error
        self.close(0)

    def create_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            context = {"message": f"{self!r}: a task failed", "exception": task.exception()}
            self.loop.call_exception_handler(context)

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- the end -----------------------------------------------------------------

    async def serve_forever(self) -> None:
        """Wait until the endpoint is closed.  When it is cancelled it closes it.

        Raises NatsLostError if NATS has ended the connection for good.
        """
        await self.start()
        try:
            await asyncio.shield(self._closed)
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._error is not None:
            raise self._error

    def close(self, grace: float = 5.0) -> Awaitable[None]:
        """Begin to close; what is returned can be awaited for the end.

        No new connections.  What is under way has grace seconds to come to its end; what is left
        then is ended with an error at both sides.
        """
        if not grace >= 0:
            raise ValueError(f"grace must be at least 0 seconds, not {grace!r}")
        if not self._started:
            raise RuntimeError("it is not started: await it, or enter it with async with")
        if self._closing is None:
            self._closing = self.loop.create_task(self._stop(grace))
        return asyncio.shield(self._closing)

    async def _release(self) -> None:
        """Ends every task, and the connection to NATS."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await self.link.close()
        if not self._closed.done():
            self._closed.set_result(None)
