"""The receiving half of a tunnel: frames in their order, messages joined, credit given."""

from collections.abc import Callable

from npipes._npipes import MessageTooLargeError

from .errors import BadFrameError, FrameGapError
from .frames import (
    ANSWER,
    CLOSE,
    DATA,
    ENTRY,
    HEADER,
    KEEP,
    LARGE,
    MORE,
    PROBE,
    REF,
    SINGLE,
    Data,
    entries_of,
)
from .shares import Memory

__all__ = ["Incoming"]


class Incoming:
    """Frames of the other bridge on their way to the local connection.

    `granted` is how many bytes the other side may send in all, `received` how many have come.
    """

    def __init__(self, granted: int, max_message_size: int, memory: Memory | None) -> None:
        self.granted = granted
        self.received = 0
        self.messages = 0
        self._max_message_size = max_message_size
        self._memory = memory  # None: the other side has no business to share
        self._pieces: list[Data] = []
        self._joined = 0
        self._number = 0
        self._grant_begin = 0  # what had been received when the last credit was given

    def header(self, frame: bytes) -> tuple[int, int]:
        """The kind of the next frame, and the credit it brings."""
        if len(frame) < HEADER.size:
            raise BadFrameError(f"a frame of {len(frame)} bytes")
        kind, number, allowed = HEADER.unpack_from(frame)
        if kind in (PROBE, ANSWER):
            if number != self._number:
                raise FrameGapError(f"{number} frames were sent, of which {self._number} came")
            return kind, allowed
        if kind not in (DATA, CLOSE):
            raise BadFrameError(f"a frame of the unknown kind {kind:#04x}")
        if number != self._number + 1:
            raise FrameGapError(f"frame {number} came after frame {self._number}")
        self._number = number
        return kind, allowed

    def messages_of(self, frame: bytes, deliver: Callable[[Data], object]) -> None:
        """Delivers the messages that a DATA frame completes."""
        size = len(frame) - SINGLE.size
        if 0 <= size < LARGE and not self._pieces and SINGLE.unpack_from(frame)[3] == size:
            self._take(0, size, frame[SINGLE.size :], deliver)
            return
        for flags, size, data, number in entries_of(frame):
            if flags == KEEP or flags == REF:
                data = self._shared(flags, size, data, number)
            self._take(flags, size, data, deliver)

    def _take(self, flags: int, size: int, data: Data, deliver: Callable[[Data], object]) -> None:
        received = self.received + size + ENTRY.size
        if received > self.granted and flags not in (KEEP, REF):
            raise BadFrameError(f"{received} bytes came, of which {self.granted} were allowed")
        self.received = received
        if self._joined + size > self._max_message_size:
            raise MessageTooLargeError(
                BadFrameError.errno_of_class,
                f"a message of more than the {self._max_message_size} bytes that are allowed",
            )
        if flags == MORE:
            self._pieces.append(data)
            self._joined += size
            return
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces = []
            self._joined = 0
        self.messages += 1
        deliver(data)

    def _shared(self, flags: int, size: int, data: Data, number: int) -> Data:
        if self._memory is None:
            raise BadFrameError("a shared message from a side that has none")
        if self._pieces:
            raise BadFrameError("a shared message inside another message")
        if self.received >= self.granted:
            raise BadFrameError(f"a shared message after all {self.granted} allowed bytes")
        found = self._memory.get(number)
        if flags == KEEP:
            if found is not None:
                raise BadFrameError(f"the shared message {number} came twice")
            self._memory.keep(number, bytes(data))
            return data
        if found is None or len(found) != size:
            raise BadFrameError(f"the shared message {number} of {size} bytes is not known")
        return found

    def due(self, pending: int, window: int) -> bool:
        """Grants what the local connection has taken; whether that is worth a frame.

        pending: bytes that wait to go out to it; window: how much may be under way.
        """
        granted = self.received - pending + window
        if not self.is_much or granted - self.granted < window // 8:
            return False
        self.granted = granted
        self._grant_begin = self.received
        return True

    @property
    def is_much(self) -> bool:
        """A quarter of the last credit was used."""
        last = self.granted - self._grant_begin
        return 4 * (self.received - self._grant_begin) >= last
