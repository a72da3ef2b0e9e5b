"""`npipes listen NAME`: what a server sends, as it comes."""

import argparse
import sys
import time

import npipes
from npipes.cli.common import (
    Commands,
    Failed,
    add_authkey,
    add_byte,
    add_name,
    add_timeout,
    authkey_of,
    new_command,
    positive,
    seconds,
)
from npipes.cli.output import FORMATS, write_message


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "listen",
        run,
        "connect to a server and print its messages until it closes",
        """
npipes listen news
npipes listen news --count 1 --for 10      one message, within 10 seconds
npipes listen news --format json           one JSON object a line
npipes listen news --reconnect             again when the server comes back
""",
    )
    add_name(parser)
    parser.add_argument("--count", type=positive, metavar="N", help="end after N messages")
    parser.add_argument("--for", type=seconds, dest="duration", metavar="SECONDS", help="end after this time")
    parser.add_argument("--format", choices=FORMATS, default="text", help="how messages are printed (default text)")
    parser.add_argument("--reconnect", action="store_true", help="connect again whenever the connection ends")
    add_timeout(parser, "wait this long for the server")
    add_byte(parser)
    add_authkey(parser)


def run(args: argparse.Namespace) -> int:
    count = 0
    over = False
    failure: BaseException | None = None

    def message(conn: npipes.ClientConnection, data: bytes, cookie: object) -> None:
        nonlocal count, failure
        if failure is not None or count == args.count:
            return
        try:
            write_message(data, args.format)
        except Exception as error:  # nobody reads the output any more
            failure = error
            manager.quit()
            return
        count += 1
        if count == args.count:
            manager.quit()

    def disconnected(conn: npipes.ClientConnection) -> None:
        nonlocal over, failure
        if not args.reconnect:
            over, failure = True, failure or conn.error
            manager.quit()

    def failed(conn: npipes.ClientConnection | None, error: npipes.PipeError) -> None:
        nonlocal failure
        if args.reconnect:
            print(f"npipes listen: {error}", file=sys.stderr, flush=True)
        else:
            failure = failure or error
            manager.quit()

    manager = npipes.ClientManager(
        mode="byte" if args.byte else "message",
        authkey=authkey_of(args),
        max_message_size=(1 << 31) - 1,
        reconnect=args.reconnect,
        on_message=message,
        on_disconnected=disconnected,
        on_error=failed,
    )
    end = None if args.duration is None else time.monotonic() + args.duration
    with manager:
        manager.connect(args.name, timeout=args.timeout)
        while not over and failure is None and count != args.count:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                if args.count:
                    raise Failed(f"{count} of {args.count} messages within {args.duration:g} seconds")
                break
            manager.run(left)
    if failure is not None:
        raise failure
    if args.count and count < args.count:
        raise Failed(f"the server closed after {count} of {args.count} messages")
    return 0
