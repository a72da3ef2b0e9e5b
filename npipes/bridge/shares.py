"""Messages that go to several tunnels of one bridge: sent once, then referred to.

A server that broadcasts writes the same bytes to each of its clients, of which the bridge beside it
is many.  It recognises them by their content.  The first tunnel carries the message with a number
(KEEP), the others the number only (REF), each at its place among the tunnel's own messages.

Both sides remember the last messages, and forget them by the same rule and in the same order:
what is for one bridge goes through one connection of NATS and one subscription, in order.  A
tunnel refers only to messages that were numbered after its peer had sent its first frame; from
then on the peer has a memory, and keeps it as long as the tunnel is open.
"""

from collections import OrderedDict
from collections.abc import Iterable

__all__ = ["MIN_SHARED", "Key", "Memory", "Seen", "Sent", "key_of"]

MIN_SHARED = 128  # bytes; less is not worth a number
MAX_COUNT = 256
MAX_BYTES = 4 << 20  # or a single message that has more

Key = tuple[int, bytes, bytes]


def key_of(message: bytes) -> Key:
    """Quick to make; messages with the same key have yet to be compared."""
    return len(message), message[:24], message[-24:]


class Memory:
    """The numbered messages, oldest first."""

    def __init__(self) -> None:
        self._messages: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, number: int) -> bytes | None:
        return self._messages.get(number)

    def keep(self, number: int, message: bytes) -> list[bytes]:
        """Remembers one more, and returns those that are forgotten for it."""
        self._messages[number] = message
        self._bytes += len(message)
        forgotten = []
        while len(self._messages) > 1 and (self._bytes > MAX_BYTES or len(self._messages) > MAX_COUNT):
            _, old = self._messages.popitem(last=False)
            self._bytes -= len(old)
            forgotten.append(old)
        return forgotten


class Seen:
    """Keys of the last messages that went without a number: one that comes again gets one.

    A server writes to one client after the other, and the first of them may have been served
    before the next has its message.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def has(self, key: Key) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._keys[key] = None
            self._keys.move_to_end(key)
        while len(self._keys) > MAX_COUNT:
            self._keys.popitem(last=False)


class Sent:
    """The sender's side: finds the number of a message that was sent before."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._numbers: dict[Key, int] = {}

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def find(self, message: bytes) -> int | None:
        number = self._numbers.get(key_of(message))
        return number if number is not None and self._memory.get(number) == message else None

    def keep(self, number: int, message: bytes) -> None:
        self._numbers[key_of(message)] = number
        for old in self._memory.keep(number, message):
            key = key_of(old)
            found = self._numbers.get(key)
            if found is not None and self._memory.get(found) is None:
                del self._numbers[key]
