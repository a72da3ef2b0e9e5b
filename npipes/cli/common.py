"""What several commands share: arguments, secrets, the end by a signal."""

import argparse
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import npipes


class Commands(Protocol):
    """What add_subparsers() returns."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser: ...


class Failed(Exception):
    """The command could not do what it was asked; the text says why, in one line."""


def new_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help: str,
    examples: str,
) -> argparse.ArgumentParser:
    """The parser of a command, with examples below its options."""
    parser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


# ---- arguments -----------------------------------------------------------


def add_name(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument("name", metavar="NAME", help="leaf name or address of the pipe")
    action.completer = _names  # type: ignore[attr-defined]


def _names(prefix: str, **others: object) -> list[str]:
    try:
        return [name for name in npipes.find() if name.startswith(prefix)]
    except (OSError, ValueError):
        return []


def add_byte(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--byte", action="store_true", help="a byte stream without message boundaries")


def add_timeout(parser: argparse.ArgumentParser, help: str, default: float | None = 5.0) -> None:
    shown = "no limit" if default is None else f"{default:g}"
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=default,
        metavar="SECONDS",
        help=f"{help} (default {shown})",
    )


def add_authkey(parser: argparse.ArgumentParser) -> None:
    """--authkey-file and --authkey-env.  There is none that takes the key: everyone sees arguments."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--authkey-file",
        metavar="FILE",
        help="the key that both ends must have is what this file has, without the newline at its end",
    )
    group.add_argument("--authkey-env", metavar="VARIABLE", help="the key is the value of this environment variable")


def authkey_of(args: argparse.Namespace) -> bytes | None:
    """The key that the arguments lead to; nothing of it is ever shown."""
    if args.authkey_env is not None:
        value = os.environ.get(args.authkey_env)
        if not value:
            raise ValueError(f"the environment variable {args.authkey_env} has no key in it")
        return os.fsencode(value) if sys.platform != "win32" else value.encode()
    if args.authkey_file is not None:
        return _key_in(args.authkey_file)
    return None


def _key_in(path: str) -> bytes:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if sys.platform != "win32" and stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            raise Failed(f"{path} has a key that others may read (mode {stat.S_IMODE(status.st_mode):o}); chmod 600 {path}")
        key = file.read().removesuffix(b"\n").removesuffix(b"\r")
    if not key:
        raise ValueError(f"{path} has no key in it")
    return key


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0")
    return value


def positive_seconds(text: str) -> float:
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    """A number of bytes: 4096, 64k, 1M, 2GiB."""
    found = re.fullmatch(r"(\d+) ?([kmg]?)(?:i?b)?", text.strip().lower())
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4096, 64k, 1M or 1GiB")
    return int(found[1]) * _UNITS[found[2]]


def access(text: str) -> str | int:
    return int(text, 8) if re.fullmatch("[0-7]+", text) else text


# ---- lines ---------------------------------------------------------------


def lines_of(read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    """What read(count) gives until its end, line by line as it comes, without their ends."""
    rest = b""
    while data := read(65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


# ---- ends ----------------------------------------------------------------


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside, the signal that ends services is a KeyboardInterrupt too."""
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
