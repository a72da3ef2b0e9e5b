"""One-way messages that survive restarts: stored by JetStream, delivered at least once, in order.

A message of the stream holds a batch of messages of one client: a byte for the version, then for
each its length in 32 bits and its bytes.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import npipes.aio
from npipes._npipes import Connection, PipeError

from .endpoint import Endpoint, Options
from .errors import BadFrameError, BridgeError
from .frames import ENTRY
from .subjects import new_token

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

__all__ = ["DeliveringBridge", "StoringBridge", "batch_of", "messages_of"]

VERSION = 1
SPARE = 1024  # of max_payload: the headers of NATS, and what a batch adds
QUEUE = 1 << 20  # bytes that wait to be stored before a client is left alone
ACK_WAIT = 5.0  # seconds; a message of which nothing is heard for so long comes again
PULL = 1.0  # seconds; a request for messages that NATS has lost costs no more
_logger = logging.getLogger("npipes.bridge")


def batch_of(queue: deque[bytes], room: int) -> tuple[bytes, int]:
    """The first messages, as many as room bytes take, and their count; they stay in the queue."""
    parts, count = [bytes([VERSION])], 0
    for message in queue:
        room -= len(message) + ENTRY.size
        if count and room < 0:
            break
        parts += (ENTRY.pack(len(message)), message)
        count += 1
    return b"".join(parts), count


def messages_of(batch: bytes) -> Iterator[bytes]:
    """Those of a batch; BadFrameError where it is none."""
    if batch[:1] != bytes([VERSION]):
        raise BadFrameError("a message of the stream that no bridge has stored")
    at, end = 1, len(batch)
    while at < end:
        if end - at < ENTRY.size:
            raise BadFrameError("a message of the stream is cut off")
        (size,) = ENTRY.unpack_from(batch, at)
        at += ENTRY.size
        if end - at < size:
            raise BadFrameError("a message of the stream is cut off")
        yield batch[at : at + size]
        at += size


class _Streaming(Endpoint):
    """What both ends do with the stream."""

    def __init__(self, name: str, options: Options, stream: str | None, confirm: bool) -> None:
        super().__init__(name, options)
        prefix = options.prefix.replace(".", "_")
        self.stream = stream or f"{prefix}_{name.replace('.', '_')}"
        self.messages = 0  # stored, or delivered
        self.confirms = confirm

    @property
    def summary(self) -> str:
        return f"{self.messages} messages"

    async def _find_stream(self) -> "JetStreamContext":
        """The stream; it is made unless somebody has made it, with settings of his own."""
        from nats.errors import Error
        from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType
        from nats.js.errors import NotFoundError

        js = self.link.client.jetstream(timeout=self._common.timeout)
        try:
            try:
                await js.stream_info(self.stream)
            except NotFoundError:
                await js.add_stream(
                    name=self.stream,
                    subjects=[self.subjects.stream],
                    storage=StorageType.FILE,
                    retention=RetentionPolicy.WORK_QUEUE,
                    discard=DiscardPolicy.NEW,
                )
        except Error as error:
            raise BridgeError(f"JetStream: {error}") from error
        return js


# ---- beside clients ------------------------------------------------------------


class StoringBridge(_Streaming):
    """What store() returns."""

    _role = "store"

    def __init__(
        self,
        name: str,
        options: Options,
        stream: str | None,
        confirm: bool,
        local: dict[str, Any],
    ) -> None:
        super().__init__(name, options, stream, confirm)
        self._local = local
        self._server: npipes.aio.Server | None = None
        self._storing: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return self._server.address

    async def _open(self) -> None:
        self._js = await self._find_stream()
        self.room = self.link.client.max_payload - SPARE
        self._server = await npipes.aio.serve(
            self._handle,
            self._common.pipe,
            max_message_size=min(self._common.max_message_size, self.room),
            **self._local,
        )

    async def _stop(self, grace: float) -> None:
        end = self.loop.time() + grace
        try:
            if self._server is not None:
                # Handlers take what has come, and store it.
                await self._server.close(grace)
            left = max(end - self.loop.time(), 0.0)
            if self._storing:
                await asyncio.wait(self._storing, timeout=left)
            for task in self._storing:
                task.cancel()
        finally:
            await self._release()

    async def _handle(self, conn: Connection) -> None:
        client = _Client(self, conn)
        task = self.loop.create_task(client.store())
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        await client.read()
        await asyncio.shield(task)

    async def store_batch(self, batch: bytes, ident: str) -> None:
        """Until JetStream has it.  The name keeps it from being stored twice."""
        from nats.errors import Error

        delay, told = 0.05, False
        while True:
            try:
                await self._js.publish(
                    self.subjects.stream,
                    batch,
                    timeout=self._common.timeout,
                    stream=self.stream,
                    headers={"Nats-Msg-Id": ident},
                )
                return
            except (Error, OSError) as error:
                if not told:
                    _logger.warning("%s: not stored yet: %s", self.name, error)
                    told = True
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)


class _Client:
    """A local connection: what it sends waits here until it is stored."""

    def __init__(self, bridge: StoringBridge, conn: Connection) -> None:
        self._bridge = bridge
        self._conn = conn
        self._queue: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False

    async def read(self) -> None:
        try:
            async for message in self._conn:
                self._queue.append(message)
                self._waiting += len(message)
                self._changed.set()
                if self._waiting > QUEUE:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._changed.set()

    async def store(self) -> None:
        """Until the client has left and all of it is stored."""
        bridge, queue = self._bridge, self._queue
        source, number = new_token(), 0
        try:
            while queue or not self._ended:
                if not queue:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                number += 1
                batch, count = batch_of(queue, bridge.room)
                await bridge.store_batch(batch, f"{source}-{number}")
                for _ in range(count):
                    self._waiting -= len(queue.popleft())
                bridge.messages += count
                if self._waiting <= QUEUE:
                    self._room.set()
                if bridge.confirms:
                    await self._confirm(count)
        finally:
            if queue:
                _logger.error("%s: %d messages were not stored", bridge.name, len(queue))

    async def _confirm(self, count: int) -> None:
        with contextlib.suppress(PipeError):  # one that has left is not told
            for _ in range(count):
                await self._conn.send(b"")


# ---- beside a server -----------------------------------------------------------


class DeliveringBridge(_Streaming):
    """What deliver() returns."""

    _role = "deliver"

    def __init__(
        self,
        name: str,
        options: Options,
        stream: str | None,
        durable: str,
        confirm: bool,
        authkey: bytes | None,
    ) -> None:
        super().__init__(name, options, stream, confirm)
        self._durable = durable
        self._authkey = authkey
        self._conn: Connection | None = None

    async def _open(self) -> None:
        from nats.errors import Error
        from nats.js.api import AckPolicy, ConsumerConfig

        js = await self._find_stream()
        # One batch is under way at a time, for all hosts that deliver: that keeps the order.
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT, max_ack_pending=1)
        try:
            self._pull = await js.pull_subscribe(self.subjects.stream, durable=self._durable, stream=self.stream, config=config)
        except Error as error:
            raise BridgeError(f"JetStream: {error}") from error
        self.create_task(self._run())

    async def _stop(self, grace: float) -> None:
        try:
            if self._conn is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        while self._conn.pending_bytes:
                            await asyncio.sleep(0.005)
        finally:
            await self._release()
            if self._conn is not None:
                await self._conn.close()

    async def _run(self) -> None:
        from nats.errors import Error
        from nats.errors import TimeoutError as NatsTimeoutError

        delay = 0.05
        while True:
            try:
                for message in await self._pull.fetch(1, timeout=PULL):
                    await self._deliver(message)
                delay = 0.05
                continue
            except NatsTimeoutError:
                continue  # there was nothing
            except (Error, OSError) as error:
                _logger.warning("%s: not delivered yet: %s", self.name, error)
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)

    async def _deliver(self, message: "Msg") -> None:
        try:
            batch = list(messages_of(message.data))
        except BadFrameError as error:
            _logger.error("%s: %s; it is passed over", self.name, error.strerror)
            await message.term()
            return
        try:
            await self._while_told(message, self._hand_over(batch))
        except PipeError:
            # Another host may have a server that takes it.
            conn, self._conn = self._conn, None
            if conn is not None:
                conn.close()
            await message.nak(delay=0.2)
            raise
        await message.ack_sync(timeout=self._common.timeout)
        self.messages += len(batch)

    async def _hand_over(self, batch: list[bytes]) -> None:
        """Until the server's pipe has all of it and, where that is asked, has confirmed it."""
        conn = self._conn
        if conn is None or not conn.is_connected:
            conn = self._conn = await npipes.aio.connect(
                self._common.pipe,
                timeout=self._common.timeout,
                authkey=self._authkey,
                max_message_size=self._common.max_message_size,
            )
            if not self.confirms:
                self.create_task(_drop_answers(conn))
        for data in batch:
            await conn.send(data)
        delay = 0.0
        while conn.pending_bytes:
            if not conn.is_connected:
                raise conn.error or BridgeError("the server closed the connection")
            await asyncio.sleep(delay)
            delay = min(delay + 0.001, 0.05)
        if self.confirms:
            for _ in batch:
                await conn.recv()

    async def _while_told(self, message: "Msg", work: Coroutine[Any, Any, None]) -> None:
        """Runs work, and meanwhile tells JetStream that the message is being worked on."""
        task = self.loop.create_task(work)
        try:
            while not (await asyncio.wait([task], timeout=ACK_WAIT / 3))[0]:
                await message.in_progress()
            await task
        finally:
            task.cancel()


async def _drop_answers(conn: Connection) -> None:
    """A server that answers is not to wait for somebody who reads it."""
    with contextlib.suppress(PipeError):
        async for _ in conn:
            pass
