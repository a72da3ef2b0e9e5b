"""Message-based IPC for processes on one machine.

Named pipes on Windows and Unix-domain sockets on Linux behind one interface:
`Server` and `ClientManager` deliver messages to Python callables from an engine in C.
"""

from npipes._npipes import (
    AccessDeniedError,
    ClientConnection,
    ClientManager,
    MessageTooLargeError,
    Peer,
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
)

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "ClientConnection",
    "ClientManager",
    "MessageTooLargeError",
    "Peer",
    "PipeBusyError",
    "PipeClosedError",
    "PipeError",
    "PipeNotFoundError",
    "PipeResetError",
    "PipeTimeoutError",
    "ProtocolError",
    "QueueFullError",
    "Server",
    "ServerConnection",
    "Stats",
    "address",
]
