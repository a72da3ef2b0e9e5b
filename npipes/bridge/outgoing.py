"""The sending half of a tunnel: messages that wait, the credit that is left, frames of both."""

from collections import deque
from collections.abc import Collection

from .errors import BadFrameError
from .frames import CLOSE, DATA, ENTRY, HEADER, KEEP, MORE, NUMBER, REF, SINGLE, Data, close_body
from .shares import MIN_SHARED, Key, Sent, key_of

__all__ = ["Outgoing"]

MIN_PIECE = 1024  # a message is not cut for less room than this
MAX_GRANT = 1 << 28  # no honest receiver is ready for more than this at once


class Outgoing:
    """Messages of the local connection on their way to the other bridge.

    Bytes are counted from the tunnel's beginning, as entries cost them: `allowed` is what the
    other side is ready to take, `sent` what has gone.
    """

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.sent = 0
        self.queued = 0
        self.messages = 0
        self._queue: deque[bytes] = deque()
        self._offset = 0  # how much of the first message is out
        self._number = 0
        self.shares_from: int | None = None  # the first number this tunnel may refer to

    def put(self, message: bytes) -> None:
        self._queue.append(message)
        self.queued += len(message) + ENTRY.size

    def clear(self) -> None:
        self._queue.clear()
        self.queued = self._offset = 0

    def allow(self, allowed: int) -> None:
        """The other side is ready for so many bytes in all."""
        if not self.allowed <= allowed <= self.sent + MAX_GRANT:
            raise BadFrameError(f"a credit of {allowed} bytes after one of {self.allowed}, with {self.sent} sent")
        self.allowed = allowed

    @property
    def can_send(self) -> bool:
        """There is a message, and credit for a part of it that is worth a frame."""
        if not self._queue:
            return False
        left = self.allowed - self.sent
        return left >= min(len(self._queue[0]) - self._offset, MIN_PIECE) + ENTRY.size

    # ---- frames ----------------------------------------------------------

    def _header(self, kind: int, granted: int) -> bytes:
        self._number += 1
        return HEADER.pack(kind, self._number, granted)

    def close(self, granted: int, code: int, reason: str) -> bytes:
        """The frame that ends the tunnel."""
        return self._header(CLOSE, granted) + close_body(code, reason)

    def mark(self, granted: int, kind: int) -> bytes:
        """A PROBE or an ANSWER."""
        return HEADER.pack(kind, self._number, granted)

    def data(self, granted: int, room: int) -> bytes:
        """A frame with as much as room and credit take; it may have no entry at all."""
        queue = self._queue
        if len(queue) == 1 and not self._offset:
            # A request, or an answer to one: the most frequent frame there is.
            head = queue[0]
            cost = len(head) + ENTRY.size
            if cost <= room - HEADER.size and cost <= self.allowed - self.sent:
                self._number += 1
                self.sent += cost
                self._pop()
                return SINGLE.pack(DATA, self._number, granted, len(head)) + head
        parts: list[Data] = [self._header(DATA, granted)]
        left = min(room - HEADER.size, self.allowed - self.sent)
        while self._queue and (cost := self._add_first(parts, left)):
            left -= cost
        return b"".join(parts)

    def _add_first(self, parts: list[Data], left: int) -> int:
        """Adds the first message, or a piece of it.  What it costs; 0: there is no room."""
        head, offset = self._queue[0], self._offset
        cost = len(head) - offset + ENTRY.size
        if cost <= left:
            rest = memoryview(head)[offset:] if offset else head
            parts += (ENTRY.pack(cost - ENTRY.size), rest)
            self._pop()
        elif left >= MIN_PIECE + ENTRY.size:
            cost = left
            piece = cost - ENTRY.size
            parts += (ENTRY.pack(piece | MORE), memoryview(head)[offset : offset + piece])
            self._offset += piece
        else:
            return 0
        self.sent += cost
        return cost

    def _pop(self) -> None:
        message = self._queue.popleft()
        self.queued -= len(message) + ENTRY.size
        self.messages += 1
        self._offset = 0

    # ---- messages that other tunnels have as well --------------------------

    def count_shared(self, counts: dict[Key, int], limit: int) -> None:
        """Counts the messages that wait and that could be shared."""
        if self.shares_from is None:
            return
        for index, message in enumerate(self._queue):
            if index == limit:
                break
            if len(message) >= MIN_SHARED:
                key = key_of(message)
                counts[key] = counts.get(key, 0) + 1

    def shared_data(self, granted: int, room: int, sent: Sent, hot: Collection[Key], number: int) -> tuple[bytes, int]:
        """A frame as data() makes one, with entries that are kept or that refer to kept ones.

        number is the last one given; returned is the last one given then.  A shared message is
        never cut, and may have more bytes than the credit that is left, once there is any.
        """
        parts: list[Data] = [self._header(DATA, granted)]
        room -= HEADER.size
        extra = ENTRY.size + NUMBER.size
        while self.can_send:
            head = self._queue[0]
            size = len(head)
            found, is_hot = self._look_up(head, sent, hot)
            if found is not None and room >= extra:
                parts += (ENTRY.pack(size | REF), NUMBER.pack(found))
                room -= extra
            elif is_hot and room >= extra + size:
                number += 1
                sent.keep(number, head)
                parts += (ENTRY.pack(size | KEEP), NUMBER.pack(number), head)
                room -= extra + size
            elif (found is not None or is_hot) and len(parts) > 1:
                break  # the next frame has room for it
            else:
                cost = self._add_first(parts, min(room, self.allowed - self.sent))
                if not cost:
                    break
                room -= cost
                continue
            self.sent += size + ENTRY.size
            self._pop()
        return b"".join(parts), number

    def _look_up(self, message: bytes, sent: Sent, hot: Collection[Key]) -> tuple[int | None, bool]:
        """The number of a message that this tunnel may refer to; else whether to give it one."""
        if self._offset or len(message) < MIN_SHARED or self.shares_from is None:
            return None, False
        found = sent.find(message)
        if found is not None and found >= self.shares_from:
            return found, False
        return None, key_of(message) in hot
