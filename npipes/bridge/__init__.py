"""The same clients and servers across hosts, over NATS.

    async with npipes.bridge.serve("demo", nats="nats://hub:4222") as bridge:       # beside a server
        await bridge.serve_forever()

    async with npipes.bridge.connect("demo", nats="nats://hub:4222") as bridge:     # beside clients
        await bridge.serve_forever()

Then npipes.connect("demo") on the second host reaches the server "demo" on the first.  The programs
`npipes bridge serve NAME` and `npipes bridge connect NAME` are these.  They need nats-py.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from npipes._npipes import PipeError
from npipes.aio import _as_bytes

from .base import Bridge, BridgeStats, TunnelOptions
from .connecting import ConnectingBridge
from .endpoint import Endpoint, Options
from .errors import (
    BadFrameError,
    BridgeError,
    FrameGapError,
    NatsLostError,
    PeerLostError,
    TunnelFailedError,
    TunnelRefusedError,
)
from .nats_link import DEFAULT_SERVER
from .peers import RemotePeer
from .serving import ServingBridge
from .stored import DeliveringBridge, StoringBridge
from .subjects import PREFIX
from .tunnel import Tunnel

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "BadFrameError",
    "Bridge",
    "BridgeError",
    "BridgeStats",
    "Endpoint",
    "FrameGapError",
    "NatsLostError",
    "PeerLostError",
    "RemotePeer",
    "Tunnel",
    "TunnelFailedError",
    "TunnelRefusedError",
    "connect",
    "deliver",
    "serve",
    "store",
]

_OnOpen = Callable[[Tunnel], object]
_OnClose = Callable[[Tunnel, PipeError | None], object]


def serve(
    name: str,
    *,
    pipe: "str | os.PathLike[str] | None" = None,
    nats: str | Sequence[str] = DEFAULT_SERVER,
    nats_options: Mapping[str, Any] | None = None,
    prefix: str = PREFIX,
    heartbeat: float = 5.0,
    timeout: float = 5.0,
    announce: bool = False,
    authkey: "ReadableBuffer | None" = None,
    max_message_size: int = 67108864,
    max_tunnels: int = 4096,
    on_open: _OnOpen | None = None,
    on_close: _OnClose | None = None,
) -> ServingBridge:
    """Let bridges on other hosts reach the server of a pipe here.

    name: under which it is known to NATS, and the local pipe unless pipe names another one.
    nats, nats_options: the servers of NATS, and what nats.connect() takes beside them (tls,
    user_credentials, nkeys_seed, ...).  prefix: the first part of every subject.
    heartbeat: seconds; a tunnel whose other end says nothing for three of them fails.
    timeout: seconds to reach NATS, and to reach the local server for a tunnel.
    announce: the first message on each local connection is RemotePeer.to_bytes() of its client.
    authkey: what the local server asks for.  on_open(tunnel), on_close(tunnel, error): plain
    functions.

    Starting raises ImportError without nats-py and NatsLostError without NATS.
    """
    options = _options(
        TunnelOptions,
        name,
        pipe,
        nats_options,
        nats=nats,
        prefix=prefix,
        heartbeat=heartbeat,
        timeout=timeout,
        announce=announce,
        max_message_size=max_message_size,
        max_tunnels=max_tunnels,
        on_open=on_open,
        on_close=on_close,
    )
    return ServingBridge(name, options, _as_bytes(authkey))


def connect(
    name: str,
    *,
    pipe: "str | os.PathLike[str] | None" = None,
    nats: str | Sequence[str] = DEFAULT_SERVER,
    nats_options: Mapping[str, Any] | None = None,
    prefix: str = PREFIX,
    heartbeat: float = 5.0,
    timeout: float = 5.0,
    announce: bool = False,
    access: str | int = "user",
    authkey: "ReadableBuffer | None" = None,
    max_message_size: int = 67108864,
    max_tunnels: int = 4096,
    on_open: _OnOpen | None = None,
    on_close: _OnClose | None = None,
) -> ConnectingBridge:
    """Offer a pipe here whose server is on another host.

    The parameters are those of serve(); access and authkey are those of the pipe that is offered.
    timeout: seconds to reach NATS, and for how long a client waits for a server.
    announce: the first message on each local connection tells who the server is.

    Starting raises what serve() raises, and what starting a server of the pipe raises.
    """
    options = _options(
        TunnelOptions,
        name,
        pipe,
        nats_options,
        nats=nats,
        prefix=prefix,
        heartbeat=heartbeat,
        timeout=timeout,
        announce=announce,
        max_message_size=max_message_size,
        max_tunnels=max_tunnels,
        on_open=on_open,
        on_close=on_close,
    )
    return ConnectingBridge(name, options, {"access": access, "authkey": _as_bytes(authkey)})


_O = TypeVar("_O", bound=Options)


def _options(
    kind: type[_O],
    name: str,
    pipe: "str | os.PathLike[str] | None",
    nats_options: Mapping[str, Any] | None,
    **others: Any,
) -> _O:
    return kind(
        pipe=name if pipe is None else os.fspath(pipe),
        nats_options=dict(nats_options or {}),
        **others,
    )


def store(
    name: str,
    *,
    pipe: "str | os.PathLike[str] | None" = None,
    nats: str | Sequence[str] = DEFAULT_SERVER,
    nats_options: Mapping[str, Any] | None = None,
    prefix: str = PREFIX,
    heartbeat: float = 5.0,
    timeout: float = 5.0,
    access: str | int = "user",
    authkey: "ReadableBuffer | None" = None,
    max_message_size: int = 67108864,
    stream: str | None = None,
    confirm: bool = False,
) -> StoringBridge:
    """Offer a pipe here whose messages JetStream stores, for a server that need not be there now.

    One way: the server's answers don't come back.  stream: its name; it is made where there is none,
    as a work queue in a file.  confirm: the client gets an empty message for each of its own as soon
    as that is stored, so that call() returns then.  A message must fit into one of NATS's.

    The other parameters are those of connect().  Starting raises what connect() raises, and
    BridgeError where there is no JetStream.
    """
    options = _options(
        Options,
        name,
        pipe,
        nats_options,
        nats=nats,
        prefix=prefix,
        heartbeat=heartbeat,
        timeout=timeout,
        max_message_size=max_message_size,
    )
    local = {"access": access, "authkey": _as_bytes(authkey)}
    return StoringBridge(name, options, stream, confirm, local)


def deliver(
    name: str,
    *,
    pipe: "str | os.PathLike[str] | None" = None,
    nats: str | Sequence[str] = DEFAULT_SERVER,
    nats_options: Mapping[str, Any] | None = None,
    prefix: str = PREFIX,
    heartbeat: float = 5.0,
    timeout: float = 5.0,
    authkey: "ReadableBuffer | None" = None,
    max_message_size: int = 67108864,
    stream: str | None = None,
    durable: str = "npipes",
    confirm: bool = False,
) -> DeliveringBridge:
    """Deliver what store() has stored to the server of a pipe here, at least once and in order.

    durable: the name of the consumer that JetStream keeps; all hosts that deliver share it.
    confirm: a message counts as delivered when the server has answered it with a message of any
    content; without it, as soon as the server's pipe has taken it.

    The other parameters are those of serve().  Starting raises what serve() raises, and BridgeError
    where there is no JetStream.
    """
    options = _options(
        Options,
        name,
        pipe,
        nats_options,
        nats=nats,
        prefix=prefix,
        heartbeat=heartbeat,
        timeout=timeout,
        max_message_size=max_message_size,
    )
    return DeliveringBridge(name, options, stream, durable, confirm, _as_bytes(authkey))
