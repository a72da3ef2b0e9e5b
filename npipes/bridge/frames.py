"""Frames: what goes over NATS for a tunnel, one frame a message of NATS.

A frame is a header and a body.  The header has the kind, the frame's number within its direction
of the tunnel, and how many bytes, counted from the tunnel's beginning, the sender of the frame is
ready to take.  The body of DATA is any number of entries, that of CLOSE a code and a text.

PROBE asks, after a bridge has been without NATS, whether the other one is there, and ANSWER says so.
They have no body and no number of their own, but that of the last frame before them: who has another
one knows that something was lost.

An entry is a word of 32 bits and bytes.  The word has the count of the bytes and three flags:

    MORE    the message goes on in the next entry
    KEEP    remember this message, whose number comes before its bytes
    REF     no bytes, but a number: the message is the remembered one, of so many bytes

What an entry costs of the receiver's credit is the bytes of its message and 4 more, the same with
KEEP and REF: it stands for what has to be written to the local connection.
"""

import struct
from collections.abc import Iterator

from .errors import BadFrameError

__all__ = [
    "ANSWER",
    "CLOSE",
    "DATA",
    "Data",
    "ENTRY",
    "HEADER",
    "KEEP",
    "LARGE",
    "MORE",
    "NUMBER",
    "PROBE",
    "REF",
    "SINGLE",
    "Entry",
    "close_body",
    "entries_of",
    "parse_close",
]

HEADER = struct.Struct("!BQQ")
ENTRY = struct.Struct("!I")
SINGLE = struct.Struct("!BQQI")  # header and entry of a frame with one message
NUMBER = struct.Struct("!Q")

DATA = 0x11  # the version of the protocol in the high half, the kind in the low one
CLOSE = 0x12
PROBE = 0x13
ANSWER = 0x14

MORE = 1 << 31
KEEP = 1 << 30
REF = 1 << 29
LENGTH = REF - 1
MAX_REASON = 1024

LARGE = 4096  # bytes of an entry that are not copied out of their frame

Data = bytes | memoryview
Entry = tuple[int, int, Data, int]  # flags, count of bytes, bytes, number


def entries_of(frame: bytes) -> Iterator[Entry]:
    """Those of a DATA frame, one after the other; BadFrameError at one that is not whole."""
    at, end = HEADER.size, len(frame)
    while at < end:
        if end - at < ENTRY.size:
            raise BadFrameError(f"{end - at} bytes at the end of a frame are no entry")
        (word,) = ENTRY.unpack_from(frame, at)
        at += ENTRY.size
        flags, size, number = word & ~LENGTH, word & LENGTH, 0
        if flags & (KEEP | REF):
            if flags not in (KEEP, REF):
                raise BadFrameError(f"an entry has the flags {flags >> 29:03b}")
            if end - at < NUMBER.size:
                raise BadFrameError("a frame ends inside the number of a message")
            (number,) = NUMBER.unpack_from(frame, at)
            at += NUMBER.size
        if flags == REF:
            yield REF, size, b"", number
            continue
        if end - at < size:
            raise BadFrameError(f"an entry of {size} bytes has {end - at}")
        if size < LARGE or flags == KEEP:
            yield flags, size, frame[at : at + size], number
        else:
            yield flags, size, memoryview(frame)[at : at + size], number
        at += size


def close_body(code: int, reason: str) -> bytes:
    return bytes([code]) + reason.encode("utf-8", "replace")[:MAX_REASON]


def parse_close(frame: bytes) -> tuple[int, str]:
    """The code and the text of a CLOSE frame."""
    body = frame[HEADER.size :]
    if not body or len(body) > 1 + MAX_REASON:
        raise BadFrameError(f"a close of {len(body)} bytes")
    reason = body[1:].decode("utf-8", "replace")
    return body[0], "".join(c if c.isprintable() else "?" for c in reason)
