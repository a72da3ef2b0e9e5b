"""What goes out to NATS: one frame after the other, tunnels in turns."""

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from .errors import NatsLostError
from .shares import Key

if TYPE_CHECKING:
    from .base import Bridge, FarBridge
    from .tunnel import Tunnel

__all__ = ["Outbox"]

# Frames of large messages.  Several of them fit into a window, so that one is under way while the
# next is made.
FRAME = 1 << 19


class Outbox:
    """Publishes for all tunnels of a bridge, and holds back while NATS is away."""

    def __init__(self, bridge: "Bridge") -> None:
        self._bridge = bridge
        self._ready: deque[Tunnel] = deque()
        self._last: deque[tuple[str, bytes]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        self._task = self._bridge.loop.create_task(self._run())

    def add(self, tunnel: "Tunnel") -> None:
        """A tunnel has something to send."""
        if not tunnel.is_queued:
            tunnel.is_queued = True
            self._ready.append(tunnel)
            self.wake()

    def send_last(self, subject: str, frame: bytes) -> None:
        """The frame of a tunnel that is no more."""
        self._last.append((subject, frame))
        self.wake()

    def wake(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    @property
    def is_empty(self) -> bool:
        return not self._ready and not self._last

    async def close(self) -> None:
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            self.wake()
            # nats-py may swallow the cancellation; the flag ends the loop then.
            await asyncio.wait([self._task], timeout=2)

    async def _run(self) -> None:
        link = self._bridge.link
        while not self._closing:
            if self.is_empty or not link.is_up:
                self._wake = self._bridge.loop.create_future()
                await self._wake
                self._wake = None
                continue
            while self._last and not self._closing:
                # Of a tunnel that is over: without it, the other side learns by itself.
                with contextlib.suppress(Exception):
                    await link.client.publish(*self._last.popleft())
            await self._round()

    async def _round(self) -> None:
        """Every tunnel that is ready now publishes a frame."""
        ready, link = self._ready, self._bridge.link
        hot = self._hot()
        limit = link.client.max_payload
        room = min(FRAME, limit)
        for _ in range(len(ready)):
            if self._closing or not link.is_up or not ready:
                return
            tunnel = ready.popleft()
            tunnel.is_queued = False
            if not tunnel.is_open:
                continue
            if hot is not None:
                await self._publish(tunnel, tunnel.next_shared_frame(limit, hot))
            else:
                await self._publish(tunnel, tunnel.next_frame(room))

    async def _publish(self, tunnel: "Tunnel", frame: bytes | None) -> None:
        if frame is None:
            return
        if tunnel.is_open and tunnel.has_more:
            self.add(tunnel)
        try:
            await self._bridge.link.client.publish(tunnel.subject, frame)
        except Exception as error:
            tunnel.fail(NatsLostError(f"a frame could not be sent: {error}"))

    async def put(self, tunnel: "Tunnel") -> None:
        """A tunnel has one more message: it goes at once where nothing else waits."""
        link = self._bridge.link
        if self.is_empty and link.is_up and not link.client.pending_data_size and not tunnel.may_share:
            await self._publish(tunnel, tunnel.next_frame(min(FRAME, link.client.max_payload)))
        else:
            self.add(tunnel)

    def _hot(self) -> set[Key] | None:
        """The keys of messages that several tunnels have; None: nothing is shared."""
        if not self._bridge.shares or len(self._bridge.tunnels) < 2:
            return None
        hot: set[Key] = set()
        counts: dict[FarBridge, dict[Key, int]] = {}
        for tunnel in self._ready:
            if tunnel.far is not None and tunnel.far.count > 1:
                tunnel.count_shared(counts.setdefault(tunnel.far, {}))
        for far, of_far in counts.items():
            hot.update(key for key, count in of_far.items() if count > 1 or far.seen.has(key))
            far.seen.add(of_far)
        return hot
