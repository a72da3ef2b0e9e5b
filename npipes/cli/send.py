"""`npipes send NAME MESSAGE...`: messages to a server, and its replies."""

import argparse
import os
import stat
import sys
import time
from collections.abc import Iterator
from functools import partial

import npipes
from npipes.cli.common import (
    Commands,
    Failed,
    add_authkey,
    add_byte,
    add_name,
    add_timeout,
    authkey_of,
    lines_of,
    new_command,
    size,
)
from npipes.cli.output import FORMATS, Progress, write_message

_WINDOW = 4 << 20  # bytes that wait to go out before the next message is read


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "send",
        run,
        "send messages to a server: the arguments, files, or standard input",
        """
npipes send demo hello --wait              one message; print the reply
npipes send demo one two three             three messages
npipes send demo --file photo.jpg          a file as one message, with a progress bar
npipes send demo --file big.iso --chunk 1M a file in messages of 1 MiB
tail -f log | npipes send demo --lines     each line of standard input as it comes
""",
    )
    add_name(parser)
    parser.add_argument("messages", nargs="*", metavar="MESSAGE", help="text, sent as UTF-8")
    parser.add_argument("--file", action="append", default=[], metavar="FILE", help="send a file; - is standard input")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--lines", action="store_true", help="each line of the input is a message, without its end")
    how.add_argument("--chunk", type=size, metavar="SIZE", help="messages of at most this size")
    parser.add_argument("--wait", action="store_true", help="wait for a reply to every message")
    parser.add_argument("--format", choices=FORMATS, default="text", help="how replies are printed (default text)")
    add_timeout(parser, "wait this long for the server, and for every reply")
    add_byte(parser)
    add_authkey(parser)


def run(args: argparse.Namespace) -> int:
    sender = _Sender(args)
    total = _total(args)  # before the connection: a file may not be there
    with sender.manager:
        sender.connect()
        with Progress("sending", total) as progress:
            for message in _messages(args):
                sender.send(message, progress)
            sender.finish(progress)
    return 0


# ---- what is sent --------------------------------------------------------


def _messages(args: argparse.Namespace) -> Iterator[bytes]:
    for text in args.messages:
        yield text.encode(errors="surrogateescape")
    for path in args.file or ([] if args.messages else ["-"]):
        if path == "-":
            yield from _parts(0, args)
        else:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                yield from _parts(descriptor, args)
            finally:
                os.close(descriptor)


def _parts(descriptor: int, args: argparse.Namespace) -> Iterator[bytes]:
    """What can be read, as messages."""
    if args.chunk:
        while data := _read(descriptor, args.chunk):
            yield data
    elif args.lines:
        yield from lines_of(partial(os.read, descriptor))
    else:
        yield _read(descriptor, sys.maxsize)


def _read(descriptor: int, count: int) -> bytes:
    """So many bytes, or what there is until the end."""
    parts = []
    while count and (data := os.read(descriptor, min(count, 1 << 20))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _total(args: argparse.Namespace) -> int | None:
    """The bytes of all messages; None where a file can't tell."""
    total = sum(len(text.encode(errors="surrogateescape")) for text in args.messages)
    for path in args.file or ([] if args.messages else ["-"]):
        status = os.fstat(0) if path == "-" else os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


# ---- the connection ------------------------------------------------------


class _Sender:
    """One connection whose events are awaited one after the other."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._accepted = 0  # messages, and their bytes
        self._bytes = 0
        self._handed_over = 0
        self._replies = 0
        self._over = False
        self._error: npipes.PipeError | None = None
        self.manager = npipes.ClientManager(
            mode="byte" if args.byte else "message",
            authkey=authkey_of(args),
            max_message_size=(1 << 31) - 1,
            on_connected=lambda conn: self.manager.quit(),
            on_message=self._message,
            on_sent=self._sent,
            on_disconnected=self._disconnected,
            on_error=self._failed,
        )

    def connect(self) -> None:
        self._conn = self.manager.connect(self._args.name, timeout=self._args.timeout)
        while not self._conn.is_connected:
            self._check()
            self.manager.run(1.0)

    def send(self, message: bytes, progress: Progress) -> None:
        self._write(message)
        if self._args.wait:
            self._await_replies(progress)
        while self._conn.pending_bytes > _WINDOW:
            self._step(progress)
        self.manager.dispatch()

    def _write(self, message: bytes) -> None:
        if not message:
            raise ValueError("an empty message can't be sent")
        self._conn.write(message)
        self._accepted += 1
        self._bytes += len(message)

    def finish(self, progress: Progress) -> None:
        """Everything is handed over to the system, and the connection closed."""
        while self._handed_over < self._accepted:
            self._step(progress)
        self._conn.close()
        while not self._over:
            self.manager.run(1.0)

    def _await_replies(self, progress: Progress) -> None:
        while self._handed_over < self._accepted:
            self._step(progress)
        timeout = self._args.timeout
        end = time.monotonic() + timeout
        while self._replies < self._accepted:
            self._check()
            left = end - time.monotonic()
            if left <= 0:
                raise Failed(f"no reply from {self._args.name} within {timeout:g} seconds")
            self.manager.run(left)

    def _step(self, progress: Progress) -> None:
        self._check()
        self.manager.run(0.1)
        progress.show(self._bytes - self._conn.pending_bytes)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._over:
            raise Failed(f"{self._args.name} has closed the connection")

    # ---- events ----------------------------------------------------------

    def _message(self, conn: npipes.ClientConnection, data: bytes, cookie: object) -> None:
        self._replies += 1
        if self._args.wait:
            write_message(data, self._args.format)
        self.manager.quit()

    def _sent(self, conn: npipes.ClientConnection, cookie: object) -> None:
        self._handed_over += 1
        self.manager.quit()

    def _disconnected(self, conn: npipes.ClientConnection) -> None:
        self._error = self._error or conn.error
        self._over = True
        self.manager.quit()

    def _failed(self, conn: npipes.ClientConnection | None, error: npipes.PipeError) -> None:
        self._error = error
        self.manager.quit()
