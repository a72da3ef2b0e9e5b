"""A server's counters for other processes: a second pipe that answers with JSON.

The pipe has the server's address with `.stats` behind it and lets in this user only.  A client
sends the message `stats` and gets one message, a JSON object:

    {"version": 1, "pid": ..., "user": ..., "address": ..., "running": true, "uptime": seconds,
     "stats": {"connections": ..., ... as in npipes.Stats},
     "peers": [{"pid": ..., "user": ..., "pending_bytes": ...}, ... at most 1000]}

Any other message gets {"version": 1, "error": ...}.  What a client does not know it ignores; version
grows when what is there changes its meaning.
"""

import getpass
import json
import os
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from npipes._npipes import (
    Client,
    PipeBusyError,
    PipeClosedError,
    ProtocolError,
    Server,
    ServerConnection,
    address,
    connect,
)

if TYPE_CHECKING:
    from typing import Self

__all__ = ["SUFFIX", "StatsPipe", "fetch"]

SUFFIX = ".stats"
REQUEST = b"stats"
VERSION = 1
_MAX_PEERS = 1000


class StatsPipe:
    """Publishes the counters of a server while it is entered: `with server, StatsPipe(server): ...`.

    Costs one thread and nothing for each message.  start() and stop() as Server has them; any thread.
    Raises ValueError where the address is too long with `.stats` behind it.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._begin = time.monotonic()
        self._pipe = Server(
            address(server.name) + SUFFIX,
            free_threading_events=True,
            listeners=1,
            max_message_size=1024,
            access="user",
            on_message=self._answer,
        )

    @property
    def address(self) -> str:
        """Where the counters can be asked for."""
        return self._pipe.address

    def start(self) -> None:
        self._begin = time.monotonic()
        self._pipe.start()

    def stop(self) -> None:
        self._pipe.stop()

    def __enter__(self) -> "Self":
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _answer(self, conn: ServerConnection, data: bytes, cookie: object) -> None:
        if data == REQUEST:
            answer = self._report()
        else:
            answer = {"version": VERSION, "error": f"the request must be {REQUEST.decode()!r}"}
        conn.write(json.dumps(answer).encode())

    def _report(self) -> dict[str, Any]:
        server = self._server
        stats = server.stats
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "user": _user(),
            "address": server.address,
            "running": server.is_running,
            "uptime": time.monotonic() - self._begin,
            "stats": dict(zip(stats.__match_args__, stats, strict=True)),
            "peers": [_peer(conn) for conn in server.connections[:_MAX_PEERS]],
        }


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None


def _peer(conn: ServerConnection) -> dict[str, Any]:
    try:
        peer = conn.peer
    except PipeClosedError:  # gone meanwhile
        return {"pid": None, "user": None, "pending_bytes": 0}
    return {"pid": peer.pid, "user": peer.user, "pending_bytes": conn.pending_bytes}


def fetch(name: str | os.PathLike[str], *, timeout: float | None = 5.0) -> dict[str, Any]:
    """What the StatsPipe of the server of this name says, in timeout seconds.

    Raises PipeNotFoundError at once where it has none, ProtocolError where what answers is something
    else, and what npipes.call() raises.
    """
    where = address(name) + SUFFIX
    try:
        client = _connect(where, 0)
    except PipeBusyError:
        client = _connect(where, timeout)
    with client:
        answer = client.call(REQUEST, timeout=timeout)
    try:
        report = json.loads(answer)
        good = report["version"] == VERSION and isinstance(report["stats"]["connections"], int)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise ProtocolError(f"{where} does not answer as a stats pipe")
    assert isinstance(report, dict)
    return report


def _connect(where: str, timeout: float | None) -> Client:
    return connect(where, timeout=timeout, max_message_size=1 << 20, server_owner="user")
