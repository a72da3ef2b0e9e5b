"""The client process of the demo: a program of its own that uses the standard library only.

    demo_client.py talk ADDRESS             messages, a large one, a broadcast
    demo_client.py rate ADDRESS SECONDS     round trips, one after the other, for that long

The exit code is 0 when everything came back as it was expected.
"""

import hashlib
import os
import random
import sys
import time
from multiprocessing.connection import Client

TEXTS = (b"hello", b"how are you?", "a line of UTF-8: \u20ac".encode())
LARGE = 8 << 20  # bytes
ANNOUNCE = b"tell everyone"
NEWS = b"news for everyone"
RATE_SIZE = 64  # bytes
PATIENCE = 30.0  # seconds that an answer may take


class Unexpected(Exception):
    """What came is not what had to come."""


def sealed(size: int) -> bytes:
    """A message of that many random bytes that begins with the SHA-256 of the rest."""
    body = random.randbytes(size - 32)
    return hashlib.sha256(body).digest() + body


def checksum(message: bytes) -> str | None:
    """The checksum of a message that sealed() made, or None if it has changed."""
    body = memoryview(message)[32:]
    return message[:4].hex() if hashlib.sha256(body).digest() == message[:32] else None


def say(text: str) -> None:
    print(f"client  {text}\n", end="", flush=True)


class Line:
    """A connection every answer of which comes in time or is an error."""

    def __init__(self, address: str) -> None:
        self._connection = Client(address)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def send(self, message: bytes) -> None:
        self._connection.send_bytes(message)

    def receive(self) -> bytes:
        if not self._connection.poll(PATIENCE):
            raise Unexpected(f"no answer within {PATIENCE:g} seconds")
        return self._connection.recv_bytes()

    def expect(self, message: bytes) -> None:
        if self.receive() != message:
            raise Unexpected("the answer is not what had to come")


def talk(address: str) -> None:
    say(f"process {os.getpid()} connects with multiprocessing.connection.Client")
    with Line(address) as first:
        for text in TEXTS:
            first.send(text)
            first.expect(text)
            say(f"the answer is {text.decode()!a}")

        large = sealed(LARGE)
        say(f"sends {LARGE:,} bytes, checksum {checksum(large)}")
        first.send(large)
        answer = first.receive()
        if len(answer) != LARGE or checksum(answer) != checksum(large):
            raise Unexpected("the answer to the large message is not what was sent")
        say(f"the answer has {len(answer):,} bytes, checksum {checksum(answer)}")

        with Line(address) as second, Line(address) as third:
            everyone = (first, second, third)
            for line in everyone:
                line.send(TEXTS[0])
                line.expect(TEXTS[0])
            first.send(ANNOUNCE)
            for line in everyone:
                line.expect(NEWS)
            say(f"the broadcast came on all {len(everyone)} connections")
    say("has closed its connections")


def rate(address: str, seconds: float) -> None:
    """Round trips as fast as a program of this kind makes them: no poll() before each answer."""
    message = bytes(RATE_SIZE)
    with Client(address) as connection:
        count, begin = 0, time.perf_counter()
        end = begin + seconds
        while time.perf_counter() < end:
            connection.send_bytes(message)
            if connection.recv_bytes() != message:
                raise Unexpected("the answer is not what was sent")
            count += 1
        took = time.perf_counter() - begin
    print(
        f"echo rate: {count / took:,.0f} round trips per second ({RATE_SIZE} bytes, one connection of this client, {took:.1f} s)",
        flush=True,
    )


def main(command: str, address: str, *seconds: str) -> int:
    try:
        if command == "talk":
            talk(address)
        else:
            rate(address, *map(float, seconds))
    except (Unexpected, OSError, EOFError) as error:
        print(f"client  failed: {error or type(error).__name__}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
