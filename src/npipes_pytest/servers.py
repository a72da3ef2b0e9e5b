"""What the fixtures pipe_server and pipe_client are."""

import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

import npipes
from npipes_pytest.handlers import Errors

_S = TypeVar("_S", bound=npipes.Server)

_EVENTS = (
    "on_ready",
    "on_connected",
    "on_message",
    "on_messages",
    "on_sent",
    "on_disconnected",
    "on_drained",
    "on_error",
)


def address_of(target: object) -> "str | os.PathLike[str]":
    """Of a server, or a name as it is."""
    return cast("str | os.PathLike[str]", getattr(target, "address", target))


class ServerFactory:
    """pipe_server: called, it starts a server.

    The server's events run on its worker (free_threading_events=True) unless an option says otherwise;
    then the test calls run() or dispatch() itself.
    """

    def __init__(self, new_name: Callable[[], str]) -> None:
        self._new_name = new_name
        self._stack = contextlib.ExitStack()
        self._errors = Errors()

    @overload
    def __call__(self, handler: type[_S], name: "str | os.PathLike[str] | None" = None, **options: Any) -> _S: ...
    @overload
    def __call__(
        self,
        handler: Callable[[npipes.ServerConnection, bytes, Any], object] | None = None,
        name: "str | os.PathLike[str] | None" = None,
        **options: Any,
    ) -> npipes.Server: ...
    def __call__(
        self,
        handler: Any = None,
        name: "str | os.PathLike[str] | None" = None,
        **options: Any,
    ) -> npipes.Server:
        """A running server.

        handler is called as on_message(conn, data, cookie), or is a subclass of npipes.Server that
        takes the name; name is one of its own by default; options are those of npipes.Server or of
        the subclass.  Raises what making and starting one raises.
        """
        name = self._new_name() if name is None else name
        if isinstance(handler, type) and issubclass(handler, npipes.Server):
            server = handler(name, **options)
            if "free_threading_events" not in options:
                server.free_threading_events = True
        else:
            if handler is not None:
                options["on_message"] = handler
            server = npipes.Server(name, **{"free_threading_events": True, **options})
        self._watch(server)
        return self._stack.enter_context(server)

    def _watch(self, server: npipes.Server) -> None:
        for event in _EVENTS:
            if function := getattr(server, event, None):
                setattr(server, event, self._errors.watch(function))

    def taken_errors(self) -> list[BaseException]:
        """What handlers raised so far; taking it is expecting it: it fails nothing any more."""
        return self._errors.take()

    def close(self) -> list[BaseException]:
        """Stops every server, the last one first; what handlers raised."""
        self._stack.close()
        return self._errors.take()


class ClientFactory:
    """pipe_client: called, it connects an npipes.Client."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __call__(self, server: object, **options: Any) -> npipes.Client:
        """A client of a server, of any kind that has an address, or of a name.

        The options are those of npipes.connect(), which raises as it says.
        """
        return self._stack.enter_context(npipes.connect(address_of(server), **options))

    def close(self) -> None:
        self._stack.close()
