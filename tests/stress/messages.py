"""What a soak sends: messages that tell their number and what each of their bytes must be."""

import random
import struct

import npipes

HEADER = struct.Struct("!cIII")  # kind, number, where its bytes are in BLOB, how many
BLOB = random.Random(1).randbytes(4 << 20)
_SIZES = [
    (60, 0, 200),
    (20, 200, 5000),
    (12, 60_000, 70_000),
    (6, 120_000, 300_000),
    (1.5, 900_000, 1_100_000),
    (0.2, 3 << 20, 4 << 20),
]


def random_size(rng):
    _, low, high = rng.choices(_SIZES, [weight for weight, _, _ in _SIZES])[0]
    return rng.randint(low, high)


def make(kind, number, rng, size=None):
    size = random_size(rng) if size is None else size
    at = rng.randint(0, len(BLOB) - size)
    return HEADER.pack(kind, number, at, size) + BLOB[at : at + size]


class Wrong(Exception):
    """A message, or an event, that should not have been."""


class Numbers:
    """What must come next on one connection: answers from 0 on, broadcasts from any number on."""

    def __init__(self):
        self.answers = 0
        self.broadcasts = None

    def check(self, data):
        """The kind of a message that is as it should be."""
        kind, number, at, size = HEADER.unpack_from(data)
        if len(data) != HEADER.size + size or memoryview(data)[HEADER.size :] != BLOB[at : at + size]:
            raise Wrong(f"{kind!r} {number} has other bytes than {size} from {at} on")
        if kind == b"B":
            expected, self.broadcasts = self.broadcasts, number + 1
        else:
            expected, self.answers = self.answers, number + 1
        if expected is not None and number != expected:
            raise Wrong(f"{kind!r} {number} came where {expected} was to come")
        return kind


def is_end(error):
    """Whether the other side has gone, or this one, in the middle of something."""
    return isinstance(error, npipes.PipeClosedError | npipes.ConnectionClosed | ConnectionError | BrokenPipeError)
