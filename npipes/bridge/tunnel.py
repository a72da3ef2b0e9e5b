"""One local connection, carried over NATS."""

import asyncio
import os
from typing import TYPE_CHECKING

from npipes._npipes import Connection, PipeError, QueueFullError

from .errors import BadFrameError, PeerLostError, TunnelFailedError
from .frames import ANSWER, CLOSE, DATA, PROBE, Data, parse_close
from .incoming import Incoming
from .outgoing import Outgoing
from .peers import RemotePeer
from .shares import MIN_SHARED, Key

if TYPE_CHECKING:
    from .base import Bridge, FarBridge

__all__ = ["Tunnel"]

QUEUE = 1 << 20  # bytes that wait for credit before the local connection is left alone
_CLOSED = 0  # in a CLOSE frame: an orderly end
_FAILED = 1


class Tunnel:
    """A connection between a client on one host and a server on another.

    To be read on the loop of its bridge.  `local` is who is connected here, `remote` who is there.
    """

    def __init__(self, bridge: "Bridge", conn: Connection, ident: str, local: RemotePeer, granted: int) -> None:
        self._bridge = bridge
        self._conn = conn
        self._early: list[bytes] | None = []  # frames before opened()
        self.granted_first = granted
        self._room: asyncio.Future[None] | None = None
        self._close: tuple[int, str] | None = None  # is to go out after what waits
        self._done: asyncio.Future[None] = bridge.loop.create_future()
        self._reading: asyncio.Task[None] | None = None
        self.ident = ident
        self.local = local
        self.remote: RemotePeer | None = None
        self.error: PipeError | None = None
        self.far: FarBridge | None = None
        self.subject = ""
        self.is_queued = False  # in the outbox
        self.is_held = False  # until the other bridge has answered a probe
        self._marks: set[int] = set()  # PROBE and ANSWER, if they are due
        self.beat = False  # a frame is due, even one without messages
        self.sent_at = self.heard_at = bridge.loop.time()

    def __repr__(self) -> str:
        return f"<npipes.bridge.Tunnel {self.local} to {self.remote}>"

    @property
    def messages_out(self) -> int:
        """Messages that went over NATS."""
        return self._out.messages if self.far else 0

    @property
    def messages_in(self) -> int:
        """Messages that came over NATS."""
        return self._in.messages if self.far else 0

    @property
    def queued_bytes(self) -> int:
        """What waits here in either direction: for credit, or for the local connection."""
        return (self._out.queued if self.far else 0) + self._conn.pending_bytes

    @property
    def pending_bytes(self) -> int:
        """What waits to go out to the local connection."""
        return self._conn.pending_bytes

    @property
    def is_open(self) -> bool:
        """Until the end was found, or told."""
        return self._bridge.tunnels.get(self.ident) is self

    # ---- the beginning -----------------------------------------------------

    def rename(self, ident: str) -> None:
        """Another name, as long as it is not opened."""
        self.ident = ident
        self._early = []

    def opened(self, far: "FarBridge", subject: str, remote: RemotePeer, allowed: int) -> None:
        """The other bridge has the tunnel too, and may be sent so many bytes."""
        self.far = far
        self.subject = subject
        self.remote = remote
        bridge = self._bridge
        self._out = Outgoing(allowed)
        self._in = Incoming(self.granted_first, bridge.max_message_size, far.memory)
        far.count += 1
        self.sent_at = self.heard_at = bridge.loop.time()
        early, self._early = self._early, None
        self._reading = bridge.loop.create_task(self._read())
        if bridge.announces:
            self._deliver(remote.to_bytes())
        self.beat = True  # tells the other side that this one is ready
        bridge.outbox.add(self)
        for frame in early or ():
            self.on_frame(frame)

    async def wait_done(self) -> None:
        """Until the tunnel is over, and all that came for the local connection is with it."""
        await asyncio.shield(self._done)

    # ---- from the local connection -------------------------------------------

    async def _read(self) -> None:
        out, outbox = self._out, self._bridge.outbox
        try:
            async for message in self._conn:
                out.put(message)
                if not self.is_queued:
                    await outbox.put(self)
                if out.queued > QUEUE:
                    self._room = self._bridge.loop.create_future()
                    await self._room
        except PipeError as error:
            self.fail(error)
        else:
            self._close = (_CLOSED, "")
            outbox.add(self)

    # ---- to NATS -------------------------------------------------------------

    def next_frame(self, room: int) -> bytes | None:
        """What is to be published next, of at most room bytes; None: nothing."""
        out = self._out
        if self._marks:
            frame = out.mark(self._in.granted, self._marks.pop())
        elif self.is_held:
            return None
        elif out.can_send:
            self.beat = False
            frame = out.data(self._in.granted, room)
        elif self._close is not None and not out.queued:
            frame = out.close(self._in.granted, *self._close)
            self._close = None
            self._end(None)
        elif self.beat:
            self.beat = False
            frame = out.data(self._in.granted, 0)
        else:
            return None
        self._published()
        return frame

    def next_shared_frame(self, room: int, hot: set[Key]) -> bytes | None:
        """The same, where other tunnels to the same bridge may have the same messages."""
        far, out, bridge = self.far, self._out, self._bridge
        if far is None or out.shares_from is None or not out.can_send or self.is_held or self._marks:
            return self.next_frame(room)
        self.beat = False
        granted, last = self._in.granted, bridge.last_shared
        frame, bridge.last_shared = out.shared_data(granted, room, far.sent, hot, last)
        self._published()
        return frame

    def _published(self) -> None:
        self.sent_at = self._bridge.loop.time()
        room = self._room
        if room is not None and self._out.queued <= QUEUE:
            self._room = None
            if not room.done():
                room.set_result(None)

    @property
    def has_more(self) -> bool:
        out = self._out
        if self._marks or self.is_held:
            return bool(self._marks)
        return out.can_send or self.beat or (self._close is not None and not out.queued)

    @property
    def may_share(self) -> bool:
        """What waits is worth a look at what other tunnels have."""
        far, out = self.far, self._out
        return far is not None and far.count > 1 and out.shares_from is not None and out.queued >= MIN_SHARED

    def count_shared(self, counts: dict[Key, int]) -> None:
        self._out.count_shared(counts, 64)

    # ---- from NATS -----------------------------------------------------------

    def on_frame(self, frame: bytes) -> None:
        """Takes a frame of the other bridge; one that is bad ends the tunnel."""
        if self._early is not None:
            if sum(map(len, self._early)) + len(frame) > self.granted_first + QUEUE:
                self.fail(BadFrameError("more frames came than were allowed before the answer"))
            else:
                self._early.append(frame)
            return
        self.heard_at = self._bridge.loop.time()
        out, into = self._out, self._in
        try:
            kind, allowed = into.header(frame)
            out.allow(allowed)
            if kind == CLOSE:
                self._closed_by_peer(frame)
                return
            if kind != DATA:
                self._answered(kind)
                return
            if out.shares_from is None and self._bridge.shares:
                out.shares_from = self._bridge.last_shared + 1
            into.messages_of(frame, self._deliver)
        except PipeError as error:
            self.fail(error)
            return
        self.grant()
        if not self.is_queued and out.can_send:
            self._bridge.outbox.add(self)

    def probe(self) -> None:
        """Holds what is to be sent until the other bridge is known to be there."""
        self.is_held = True
        self._marks.add(PROBE)
        self._bridge.outbox.add(self)

    def _answered(self, kind: int) -> None:
        if kind == PROBE:
            self._marks.add(ANSWER)
        elif self.is_held:
            self.is_held = False
            self.beat = True
        self._bridge.outbox.add(self)

    def _deliver(self, message: Data) -> None:
        try:
            self._conn.send_nowait(message)
        except QueueFullError:
            raise
        except PipeError:
            pass  # it is over: its reader ends the tunnel

    def grant(self) -> None:
        """Lets the other side send as much more as the local connection has taken."""
        pending = self._conn.pending_bytes
        if not pending and not self._in.is_much:
            return
        window = self._bridge.window
        if self._in.due(pending, window):
            self.beat = True
            self._bridge.outbox.add(self)
        if pending > window // 2:
            self._bridge.watch(self)

    def _closed_by_peer(self, frame: bytes) -> None:
        code, reason = parse_close(frame)
        if code == _CLOSED:
            self._end(None)
        else:
            self._end(TunnelFailedError(reason or "the other bridge gave no reason"))

    # ---- the end -------------------------------------------------------------

    def check(self, now: float, heartbeat: float) -> None:
        """Sends a heartbeat where one is due, and fails where three are missing."""
        if self.far is None:
            return
        if now - self.heard_at > 3 * heartbeat:
            self.fail(PeerLostError(f"nothing came from the bridge on {self._remote_host} for {3 * heartbeat:g} seconds"))
        elif now - self.sent_at >= heartbeat:
            self.beat = True
            self._bridge.outbox.add(self)

    @property
    def _remote_host(self) -> str:
        return self.remote.host if self.remote else "the other host"

    def fail(self, error: PipeError) -> None:
        """Ends the tunnel with an error, which both sides learn."""
        if self._done.done() or self.error is not None:
            return
        if self.far is not None:
            self._out.clear()
            self._close = None
            if not isinstance(error, TunnelFailedError):
                reason = f"{self._bridge.host}: {_text_of(error)}"
                self._bridge.outbox.send_last(self.subject, self._out.close(self._in.granted, _FAILED, reason))
        self._end(error)

    def _end(self, error: PipeError | None) -> None:
        if self._bridge.forget(self, error):
            self.error = error
            if self._reading is not None and self._reading is not asyncio.current_task():
                self._reading.cancel()
            self._bridge.finish(self._finish())

    async def _finish(self) -> None:
        """Hands over what came, then closes the local connection, with an error if there was one."""
        conn, delay = self._conn, 0.001
        try:
            while conn.is_connected and conn.pending_bytes:
                await asyncio.sleep(delay)
                delay = min(2 * delay, 0.1)
            if self.error is not None and conn.is_connected:
                await _break_off(conn)
        finally:
            conn.close()
            if not self._done.done():
                self._done.set_result(None)


async def _break_off(conn: Connection) -> None:
    """Lets the local peer see that this was no orderly end.

    Under Linux an end inside the header of a message is one.  A named pipe knows one end only.
    """
    if os.name == "nt":
        return
    for _ in range(100):
        try:
            os.write(conn.handle, b"\0")
            return
        except BlockingIOError:
            await asyncio.sleep(0.01)
        except OSError:
            return


def _text_of(error: PipeError) -> str:
    return error.strerror or str(error)
