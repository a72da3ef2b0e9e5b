"""Who is at the other end of a tunnel, as its bridge tells."""

import dataclasses
import json
import socket
from typing import Any

from npipes._npipes import Connection

from .errors import BadFrameError

__all__ = ["RemotePeer"]

_MAX_TEXT = 256
_MARK = "npipes-peer"


@dataclasses.dataclass(frozen=True)
class RemotePeer:
    """A process on another host.  The bridge there vouches for it, and NATS for the bridge.

    host: the name of its host; pid, uid, gid, sid and user: as npipes.Peer has them, each None
    where that system does not tell; bridge: the name of the bridge, the same for all its tunnels.
    """

    host: str
    bridge: str
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    sid: str | None = None
    user: str | None = None

    def __str__(self) -> str:
        who = self.user or self.sid or (f"uid {self.uid}" if self.uid is not None else "somebody")
        return f"{who}@{self.host}" + (f", pid {self.pid}" if self.pid is not None else "")

    @classmethod
    def of(cls, conn: Connection, host: str, bridge: str) -> "RemotePeer":
        """The peer of a local connection."""
        peer = conn.peer
        return cls(host, bridge, peer.pid, peer.uid, peer.gid, peer.sid, peer.user)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: object) -> "RemotePeer":
        """Raises BadFrameError unless every field is what it should be."""
        if not isinstance(fields, dict):
            raise BadFrameError("a peer is described by an object of JSON")
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = fields.get(field.name)
            kind = int if field.name in ("pid", "uid", "gid") else str
            needed = field.name in ("host", "bridge")
            if not (type(value) is kind or value is None and not needed):
                raise BadFrameError(f"a peer's {field.name} is {value!r:.40}")
            if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isprintable()):
                raise BadFrameError(f"a peer's {field.name} is {value!r:.40}")
            values[field.name] = value
        return cls(**values)

    def to_bytes(self) -> bytes:
        """The message that announces this peer, where a bridge was told to announce."""
        return json.dumps({_MARK: 1, **self.to_json()}).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> "RemotePeer":
        """Reads the first message of a connection whose bridge announces.

        Raises BadFrameError, a PipeError, when it is something else.
        """
        try:
            fields = json.loads(message)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or fields.get(_MARK) != 1:
            raise BadFrameError("the first message does not announce a peer")
        return cls.from_json(fields)


def host_name() -> str:
    """This host's, as others are told."""
    return (socket.gethostname() or "localhost")[:_MAX_TEXT]
