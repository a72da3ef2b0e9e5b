"""What the two ends of a bridge have in common: the tunnels, their time, starting and closing."""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from npipes._npipes import PipeError

from .endpoint import Endpoint, Options
from .errors import BridgeError, NatsLostError
from .outbox import Outbox
from .shares import Memory, Seen, Sent
from .subjects import new_token
from .tunnel import Tunnel

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["LOCAL_BUFFER", "Bridge", "BridgeStats", "FarBridge", "TunnelOptions"]

_logger = logging.getLogger("npipes.bridge")

# How much may be under way to this bridge, in all and for a tunnel.  The NATS server's own limit
# for what it holds for a connection is 64 MiB (max_pending).
BUDGET = 32 << 20
MAX_WINDOW = 4 << 20
MIN_WINDOW = 16 << 10
# What the system holds for a local connection: large messages pass in fewer turns.
LOCAL_BUFFER = None if os.name == "nt" else 1 << 20
FIRST_WINDOW = 64 << 10  # before a tunnel has had any traffic


@dataclasses.dataclass
class BridgeStats:
    """Counters since the start.

    tunnels, tunnels_total: now, and ever; failed: those of them that ended with an error;
    refused: connections for which there was no tunnel; messages_in, messages_out: from NATS, and
    to it, of tunnels that are over and that are open; stray_frames: what came for no tunnel.
    """

    tunnels: int = 0
    tunnels_total: int = 0
    failed: int = 0
    refused: int = 0
    messages_in: int = 0
    messages_out: int = 0
    stray_frames: int = 0


@dataclasses.dataclass(kw_only=True)
class TunnelOptions(Options):
    """What serve() and connect() were given."""

    announce: bool
    max_tunnels: int
    on_open: Callable[[Tunnel], object] | None
    on_close: Callable[[Tunnel, PipeError | None], object] | None

    def check(self) -> None:
        super().check()
        if self.max_tunnels < 1:
            raise ValueError(f"max_tunnels must be at least 1, not {self.max_tunnels!r}")


class FarBridge:
    """A bridge at the other side, as long as it has a tunnel here."""

    def __init__(self, ident: str, remembers: bool) -> None:
        self.ident = ident
        self.count = 0
        self.sent = Sent()
        self.seen = Seen()
        # Only the bridge of a server shares messages, so only the other one remembers.
        self.memory = Memory() if remembers else None


class Bridge(Endpoint):
    """One end of tunnels: await it or enter it, and it runs.

    To be used on its loop's thread only.
    """

    shares = False  # whether messages for several tunnels go over NATS once

    def __init__(self, name: str, options: TunnelOptions) -> None:
        super().__init__(name, options)
        self.ident = new_token()
        self.max_message_size = options.max_message_size
        self.announces = options.announce
        self.last_shared = 0
        self.tunnels: dict[str, Tunnel] = {}
        self.outbox = Outbox(self)
        self._options = options
        self._far: dict[str, FarBridge] = {}
        self._stats = BridgeStats()
        self._finishing: set[asyncio.Task[Any]] = set()
        self._watched: set[Tunnel] = set()
        self._watching = False

    async def _open(self) -> None:
        self.outbox.start()
        await self._open_local()
        self.create_task(self._tick())

    async def _open_local(self) -> None:
        """Subscribes, and opens the local side."""
        raise NotImplementedError

    async def _close_local(self) -> None:
        """No new connections from here on."""
        raise NotImplementedError

    # ---- what there is -------------------------------------------------------

    @property
    def stats(self) -> BridgeStats:
        """Counters, a copy."""
        stats = dataclasses.replace(self._stats, tunnels=len(self.tunnels))
        for tunnel in self.tunnels.values():
            stats.messages_in += tunnel.messages_in
            stats.messages_out += tunnel.messages_out
        return stats

    @property
    def summary(self) -> str:
        stats = self.stats
        return (
            f"{stats.tunnels_total} tunnels, {stats.failed} failed, {stats.refused} refused,"
            f" {stats.messages_in} messages in, {stats.messages_out} out"
        )

    @property
    def window(self) -> int:
        """How many bytes may be under way to a tunnel."""
        return max(MIN_WINDOW, min(MAX_WINDOW, BUDGET // (len(self.tunnels) + 1)))

    @property
    def first_window(self) -> int:
        return min(FIRST_WINDOW, self.window)

    @property
    def max_pending_bytes(self) -> int:
        """For a local connection: a message of any size behind all that credit allows."""
        return self.max_message_size + 2 * MAX_WINDOW

    # ---- tunnels -------------------------------------------------------------

    def far_bridge(self, ident: str) -> FarBridge:
        far = self._far.get(ident)
        if far is None:
            far = self._far[ident] = FarBridge(ident, remembers=not self.shares)
        return far

    def has_opened(self, tunnel: Tunnel) -> None:
        self._stats.tunnels_total += 1
        _logger.info("%s: a tunnel from %s to %s", self.name, tunnel.local, tunnel.remote)
        self._call(self._options.on_open, tunnel)

    def forget(self, tunnel: Tunnel, error: PipeError | None) -> bool:
        """Takes a tunnel off the table; whether it was on it."""
        if self.tunnels.get(tunnel.ident) is not tunnel:
            return False
        del self.tunnels[tunnel.ident]
        self._watched.discard(tunnel)
        far = tunnel.far
        if far is not None:
            self._stats.messages_in += tunnel.messages_in
            self._stats.messages_out += tunnel.messages_out
            far.count -= 1
            if not far.count:
                self._far.pop(far.ident, None)
            if error is not None:
                self._stats.failed += 1
                _logger.warning(
                    "%s: the tunnel from %s to %s failed: %s",
                    self.name,
                    tunnel.local,
                    tunnel.remote,
                    error.strerror or error,
                )
            else:
                _logger.info("%s: the tunnel from %s is over", self.name, tunnel.local)
            self._call(self._options.on_close, tunnel, error)
        return True

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the end of a tunnel."""
        task = self.loop.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def _call(self, function: Callable[..., object] | None, *args: object) -> None:
        if function is None:
            return
        try:
            function(*args)
        except Exception as error:
            context = {"message": f"npipes.bridge: {function!r} failed", "exception": error}
            self.loop.call_exception_handler(context)

    async def on_frame(self, message: "Msg") -> None:
        """NATS has a frame for one of the tunnels, or for none."""
        tunnel = self.tunnels.get(message.subject.rpartition(".")[2])
        if tunnel is None:
            self._stats.stray_frames += 1
        else:
            tunnel.on_frame(message.data)

    # ---- time ------------------------------------------------------------------

    async def _tick(self) -> None:
        heartbeat = self._options.heartbeat
        now = self.loop.time()
        while True:
            due = now + heartbeat / 4
            await asyncio.sleep(heartbeat / 4)
            now = self.loop.time()
            self._excuse(now - due)
            lost = self.link.lost_for(now)
            if lost > 3 * heartbeat:
                error = f"there was no connection to NATS for {3 * heartbeat:g} seconds"
                self._fail_all(partial(NatsLostError, error))
            elif not lost:
                for tunnel in list(self.tunnels.values()):
                    tunnel.check(now, heartbeat)

    def _excuse(self, late: float) -> None:
        """A loop that had no time has heard nobody: that is no silence of the others, who may have spoken meanwhile."""
        for tunnel in self.tunnels.values():
            tunnel.heard_at += late

    def _fail_all(self, error: Callable[[], BridgeError]) -> None:
        for tunnel in list(self.tunnels.values()):
            if tunnel.far is not None:
                tunnel.fail(error())

    def _back(self) -> None:
        # The other side may not be back yet, and what is sent to it then is lost.
        now = self.loop.time()
        for tunnel in self.tunnels.values():
            tunnel.heard_at = now
            tunnel.is_held = tunnel.far is not None
        self.create_task(self._probe())
        self.outbox.wake()

    async def _probe(self) -> None:
        delay = 0.05
        while held := [tunnel for tunnel in self.tunnels.values() if tunnel.is_held]:
            for tunnel in held:
                tunnel.probe()
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)

    def watch(self, tunnel: Tunnel) -> None:
        """A local connection takes its messages slowly: look when it has taken some."""
        self._watched.add(tunnel)
        if not self._watching:
            self._watching = True
            self.create_task(self._watch())

    async def _watch(self) -> None:
        # Nothing tells that a connection's queue became shorter.  What is allowed in between
        # keeps the line busy at any sensible rate, and a reader that stands still costs little.
        delay = 0.001
        while self._watched:
            await asyncio.sleep(delay)
            delay = min(2 * delay, 0.05)
            for tunnel in list(self._watched):
                if tunnel.pending_bytes <= self.window // 2:
                    self._watched.discard(tunnel)
                    tunnel.grant()
                    delay = 0.001
        self._watching = False

    # ---- the end -----------------------------------------------------------------

    async def _stop(self, grace: float) -> None:
        end = self.loop.time() + grace
        try:
            await self._close_local()
            while (self.tunnels or self._finishing) and self.loop.time() < end:
                await asyncio.sleep(0.01)
            self._fail_all(lambda: BridgeError("the bridge was stopped"))
            if self.link.is_up:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        while not self.outbox.is_empty:
                            await asyncio.sleep(0.001)
        finally:
            await self._release()

    async def _release(self) -> None:
        await self.outbox.close()
        finishing = list(self._finishing)
        for task in finishing:
            task.cancel()
        if finishing:
            await asyncio.wait(finishing, timeout=5)
        await super()._release()
