"""The end beside a server: a local connection for each tunnel."""

import json
from typing import TYPE_CHECKING, Any

import npipes.aio
from npipes._npipes import PipeError

from .base import LOCAL_BUFFER, Bridge, TunnelOptions
from .errors import BadFrameError, BridgeError
from .peers import RemotePeer
from .subjects import is_token
from .tunnel import Tunnel

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["PROTOCOL", "ServingBridge"]

PROTOCOL = 1


class ServingBridge(Bridge):
    """What serve() returns."""

    shares = True
    _role = "serve"

    def __init__(self, name: str, options: TunnelOptions, authkey: bytes | None) -> None:
        super().__init__(name, options)
        self._authkey = authkey
        self._opening: set[str] = set()
        self._subscription: Any = None

    async def _open_local(self) -> None:
        await self.link.subscribe(self.subjects.up(self.ident, "*"), self.on_frame)
        self._subscription = await self.link.subscribe(self.subjects.open, self._asked, self.subjects.queue)
        await self.link.client.flush()

    async def _close_local(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self.link.is_up:
            await subscription.unsubscribe()

    async def _asked(self, message: "Msg") -> None:
        """A bridge of clients wants a tunnel."""
        if message.reply:
            self.create_task(self._answer(message))

    async def _answer(self, message: "Msg") -> None:
        try:
            answer = await self._open_tunnel(message.data)
        except PipeError as error:
            self._stats.refused += 1
            answer = {"error": f"{self.host}: {error.strerror or error}"}
        await message.respond(json.dumps(answer).encode())

    async def _open_tunnel(self, request: bytes) -> dict[str, Any]:
        bridge, ident, allowed, timeout, remote = _parse(request)
        if self._closing is not None:
            raise BridgeError("the bridge is being stopped")
        if ident in self.tunnels or ident in self._opening:
            raise BadFrameError("there is a tunnel of that name already")
        if len(self.tunnels) + len(self._opening) >= self._options.max_tunnels:
            raise BridgeError(f"there are {self._options.max_tunnels} tunnels already")
        self._opening.add(ident)
        try:
            conn = await npipes.aio.connect(
                self._options.pipe,
                timeout=min(self._options.timeout, 0.75 * timeout),  # while the other waits
                authkey=self._authkey,
                max_message_size=self.max_message_size,
                max_pending_bytes=self.max_pending_bytes,
                kernel_buffer_size=LOCAL_BUFFER,
            )
        finally:
            self._opening.discard(ident)
        local = RemotePeer.of(conn, self.host, self.ident)
        granted = self.first_window
        tunnel = Tunnel(self, conn, ident, local, granted)
        self.tunnels[ident] = tunnel
        tunnel.opened(self.far_bridge(bridge), self.subjects.down(bridge, ident), remote, allowed)
        self.has_opened(tunnel)
        return {
            "protocol": PROTOCOL,
            "bridge": self.ident,
            "granted": granted,
            "peer": local.to_json(),
        }


def _parse(request: bytes) -> tuple[str, str, int, float, RemotePeer]:
    """What a bridge asks with.

    Its name, that of the tunnel, the credit it gives, for how many seconds it waits, its client.
    """
    try:
        fields = json.loads(request)
    except (ValueError, RecursionError):
        raise BadFrameError("a request that is no JSON") from None
    if not isinstance(fields, dict) or fields.get("protocol") != PROTOCOL:
        raise BadFrameError(f"a request that is not of protocol {PROTOCOL}")
    bridge, ident, allowed = (fields.get(k) for k in ("bridge", "tunnel", "granted"))
    if not (is_token(bridge) and is_token(ident)):
        raise BadFrameError("a request whose names are none")
    if type(allowed) is not int or not 0 <= allowed <= 1 << 28:
        raise BadFrameError(f"a request with a credit of {allowed!r:.40}")
    timeout = fields.get("timeout")
    if not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600:
        raise BadFrameError(f"a request with a timeout of {timeout!r:.40}")
    return str(bridge), str(ident), allowed, timeout, RemotePeer.from_json(fields.get("peer"))
