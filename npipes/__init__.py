"""Message-based IPC for processes on one machine.

Named pipes on Windows and Unix-domain sockets on Linux behind one interface:
`Server` and `ClientManager` deliver messages to Python callables from an engine in C; `connect`,
`Client` and `Listener` are for calls that wait.
"""

import sys
from typing import TYPE_CHECKING, Any

try:
    from npipes._npipes import (
        AccessDeniedError,
        Client,
        ClientConnection,
        ClientManager,
        ConnectionClosed,
        Listener,
        MessageTooLargeError,
        Peer,
        Pipe,
        PipeBusyError,
        PipeClosedError,
        PipeError,
        PipeNotFoundError,
        PipeResetError,
        PipeTimeoutError,
        ProtocolError,
        QueueFullError,
        Server,
        ServerConnection,
        Stats,
        address,
        connect,
    )
except ModuleNotFoundError as _error:
    if _error.name != "npipes._npipes":
        raise
    raise ImportError(
        f"{__path__[0]} has no extension in it that was built for this Python ({sys.version.split()[0]})."
        " If it is npipes' source: run Python in another directory, where it finds the npipes that is installed,"
        " or build the extension there with pip install -e .",
        name=_error.name,
        path=_error.path,
    ) from None
from npipes.client import call, wait
from npipes.discovery import find
from npipes.payload import UnsafePayloadError, dumps, loads
from npipes.propertybag import PropertyBag

if TYPE_CHECKING:
    from npipes.authentication import AuthenticationError

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "AuthenticationError",
    "Client",
    "ClientConnection",
    "ClientManager",
    "ConnectionClosed",
    "Listener",
    "MessageTooLargeError",
    "Peer",
    "Pipe",
    "PipeBusyError",
    "PipeClosedError",
    "PipeError",
    "PipeNotFoundError",
    "PipeResetError",
    "PipeTimeoutError",
    "PropertyBag",
    "ProtocolError",
    "QueueFullError",
    "Server",
    "ServerConnection",
    "Stats",
    "UnsafePayloadError",
    "address",
    "call",
    "connect",
    "dumps",
    "find",
    "loads",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name == "AuthenticationError":
        from npipes.authentication import AuthenticationError

        return AuthenticationError
    if name in ("aio", "bridge"):
        import importlib

        return importlib.import_module(f"npipes.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
