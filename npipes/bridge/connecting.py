"""The end beside clients: a local pipe of the server's name, and a tunnel for each connection."""

import asyncio
import json
import logging
from typing import Any

import npipes.aio
from npipes._npipes import Connection

from .base import LOCAL_BUFFER, Bridge, TunnelOptions
from .errors import BadFrameError, BridgeError, NatsLostError, TunnelRefusedError
from .peers import RemotePeer
from .serving import PROTOCOL
from .subjects import is_token, new_token
from .tunnel import Tunnel

__all__ = ["ConnectingBridge"]

_logger = logging.getLogger("npipes.bridge")


class ConnectingBridge(Bridge):
    """What connect() returns."""

    _role = "connect"

    def __init__(self, name: str, options: TunnelOptions, local: dict[str, Any]) -> None:
        super().__init__(name, options)
        self._openers: set[asyncio.Task[Any]] = set()
        self._server = npipes.aio.serve(
            self._handle,
            options.pipe,
            max_message_size=options.max_message_size,
            max_instances=options.max_tunnels,
            max_pending_bytes=self.max_pending_bytes,
            kernel_buffer_size=LOCAL_BUFFER,
            **local,
        )

    @property
    def address(self) -> str:
        """Where clients connect."""
        return self._server.address

    async def _open_local(self) -> None:
        await self.link.subscribe(self.subjects.down(self.ident, "*"), self.on_frame)
        await self.link.client.flush()
        await self._server

    async def _close_local(self) -> None:
        if self._server.is_running:
            self._server._stop_listening()

    async def _release(self) -> None:
        for task in self._openers:
            task.cancel()
        await super()._release()
        if self._server.is_running:
            await self._server.close(0)

    async def _handle(self, conn: Connection) -> None:
        local = RemotePeer.of(conn, self.host, self.ident)
        tunnel = Tunnel(self, conn, new_token(), local, self.first_window)
        self.tunnels[tunnel.ident] = tunnel
        task = asyncio.current_task()
        assert task is not None
        self._openers.add(task)
        try:
            await self._open_tunnel(tunnel, conn)
        except BridgeError as error:
            self._stats.refused += 1
            _logger.warning("%s: no tunnel for %s: %s", self.name, local, error.strerror)
            tunnel.fail(error)
        except BaseException:
            tunnel.fail(BridgeError("the bridge was stopped"))
            raise
        finally:
            self._openers.discard(task)
        await tunnel.wait_done()

    async def _open_tunnel(self, tunnel: Tunnel, conn: Connection) -> None:
        """Asks until a bridge of a server agrees, as long as a client waits for a server."""
        end = self.loop.time() + self._options.timeout
        delay = 0.02
        while True:
            left = min(max(self._options.timeout / 3, 0.5), end - self.loop.time())
            try:
                bridge, allowed, remote = await self._ask(tunnel, max(left, 0.1))
                break
            except TunnelRefusedError:
                if self.loop.time() + delay > end or self._closing or not conn.is_connected:
                    raise
            await asyncio.sleep(delay)
            delay = min(2 * delay, 0.5)
            if tunnel.is_open:
                self._rename(tunnel)
        if tunnel.is_open:
            subject = self.subjects.up(bridge, tunnel.ident)
            tunnel.opened(self.far_bridge(bridge), subject, remote, allowed)
            self.has_opened(tunnel)

    def _rename(self, tunnel: Tunnel) -> None:
        """Who was asked before may have opened it, and not be heard: that one is another tunnel."""
        del self.tunnels[tunnel.ident]
        tunnel.rename(new_token())
        self.tunnels[tunnel.ident] = tunnel

    async def _ask(self, tunnel: Tunnel, seconds: float) -> tuple[str, int, RemotePeer]:
        from nats.errors import Error, NoRespondersError
        from nats.errors import TimeoutError as NatsTimeoutError

        request = {
            "protocol": PROTOCOL,
            "bridge": self.ident,
            "tunnel": tunnel.ident,
            "granted": tunnel.granted_first,
            "timeout": seconds,
            "peer": tunnel.local.to_json(),
        }
        try:
            reply = await self.link.client.request(self.subjects.open, json.dumps(request).encode(), timeout=seconds)
        except NoRespondersError:
            raise TunnelRefusedError(f"nobody serves {self.name!r}") from None
        except NatsTimeoutError:
            raise TunnelRefusedError(f"no bridge that serves {self.name!r} has answered within {seconds:.3g} seconds") from None
        except Error as error:
            raise NatsLostError(f"NATS: {error}") from error
        return self._parse(reply.data)

    def _parse(self, reply: bytes) -> tuple[str, int, RemotePeer]:
        """What a bridge answers with: its name, the credit it gives, its server."""
        try:
            fields = json.loads(reply)
        except (ValueError, RecursionError):
            raise BadFrameError("an answer that is no JSON") from None
        if isinstance(fields, dict) and isinstance(fields.get("error"), str):
            raise TunnelRefusedError(fields["error"][:1000])
        if not isinstance(fields, dict) or fields.get("protocol") != PROTOCOL:
            raise BadFrameError(f"an answer that is not of protocol {PROTOCOL}")
        bridge, allowed = fields.get("bridge"), fields.get("granted")
        if not is_token(bridge):
            raise BadFrameError("an answer whose name is none")
        if type(allowed) is not int or not 0 <= allowed <= 1 << 28:
            raise BadFrameError(f"an answer with a credit of {allowed!r:.40}")
        return str(bridge), allowed, RemotePeer.from_json(fields.get("peer"))
