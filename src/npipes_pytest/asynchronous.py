"""What the fixtures aio_pipe_server and aio_pipe_client are.

They are plain functions that return what `async with` takes, so that they do not depend on how
coroutines of tests and fixtures are run, or by whom.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import npipes
import npipes.aio
from npipes_pytest.handlers import Errors
from npipes_pytest.servers import address_of

_EVENTS = ("on_connected", "on_message", "on_disconnected", "on_error")


class NotClosedError(AssertionError):
    """A test has not closed a server, which its event loop should have done the work for."""


class AioServerFactory:
    """aio_pipe_server: called, it makes an npipes.aio.Server for `async with`."""

    def __init__(self, new_name: Callable[[], str]) -> None:
        self._new_name = new_name
        self._errors = Errors()
        self._servers: list[npipes.aio.Server] = []

    def __call__(
        self,
        handler: Callable[[npipes.aio.Connection], Awaitable[object]] | None = None,
        name: "str | os.PathLike[str] | None" = None,
        **options: Any,
    ) -> npipes.aio.Server:
        """What npipes.aio.serve() returns; the parameters are its own, the name one nobody has."""
        for event in _EVENTS:
            if options.get(event) is not None:
                options[event] = self._errors.watch(options[event])
        watched = None if handler is None else self._errors.watch(handler)
        server = npipes.aio.serve(watched, self._new_name() if name is None else name, **options)
        self._servers.append(server)
        return server

    def taken_errors(self) -> list[BaseException]:
        """What handlers raised so far; taking it is expecting it: it fails nothing any more."""
        return self._errors.take()

    def errors(self) -> list[BaseException]:
        """What handlers raised, and which servers were started and never closed."""
        # Not is_running: a loop that was closed meanwhile has ended its servers.
        left = [s for s in self._servers if s._server is not None and s._closing is None]
        return self._errors.take() + [NotClosedError(f"{server!r} was not closed: enter it with async with") for server in left]


class AioClientFactory:
    """aio_pipe_client: called, it returns npipes.aio.connect() to a server or name."""

    def __call__(self, server: object, **options: Any) -> npipes.aio.connect:
        return npipes.aio.connect(address_of(server), **options)
