"""The command line: `npipes demo`, `npipes serve`, `npipes bridge`."""

import argparse
import itertools
import re
import signal
import sys
from collections.abc import Callable, Sequence

import npipes
from npipes import bridge_command, demo


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.  Returns its exit code: 0 done, 1 failed, 130 interrupted.

    Raises SystemExit(2) for wrong arguments.  Main thread only, for the signals.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.command == "demo":
            return demo.run(with_rate=not args.no_rate)
        if args.command == "bridge":
            return bridge_command.run(args)
        return _serve(args, parser)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npipes", description="Message-based IPC for processes on one machine."
    )
    parser.add_argument("--version", action="version", version=f"npipes {npipes.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    demo = commands.add_parser(
        "demo", help="a server and a client process: what they do, as it happens, and how fast"
    )
    demo.add_argument("--no-rate", action="store_true", help="do not measure the echo rate")

    serve = commands.add_parser("serve", help="keep a server up until Ctrl-C")
    serve.add_argument("name", help="leaf name or address of the pipe")
    serve.add_argument("--echo", action="store_true", help="answer every message with itself")
    serve.add_argument(
        "--byte", action="store_true", help="a byte stream without message boundaries"
    )
    serve.add_argument(
        "--access",
        type=_access,
        default="user",
        help="who may connect: user (default), everyone, a mode such as 660 or group:NAME (Linux), "
        "SDDL (Windows)",
    )
    serve.add_argument(
        "--threads", type=int, default=1, metavar="N", help="worker threads (default 1)"
    )
    serve.add_argument("--quiet", action="store_true", help="print no line for each connection")

    bridge_command.add(commands)
    return parser


def _access(text: str) -> str | int:
    return int(text, 8) if re.fullmatch("[0-7]+", text) else text


# ---- serve ---------------------------------------------------------------


def _serve(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if not args.echo:
        parser.error("serve needs --echo")
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server = _echo_server(args)
        with server:
            server.run()
    except KeyboardInterrupt:
        pass        # what ends it
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"npipes serve: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, old)
    stats = server.stats
    print(
        f"{stats.connections_total} connections,"
        f" {stats.messages_in} messages ({stats.bytes_in} bytes) in,"
        f" {stats.messages_out} ({stats.bytes_out} bytes) out, {stats.errors} errors",
        flush=True,
    )
    return 0


def _echo_server(args: argparse.Namespace) -> npipes.Server:
    server = npipes.Server(
        args.name,
        threads=args.threads,
        free_threading_events=True,
        mode="byte" if args.byte else "message",
        access=args.access,
    )
    numbers = itertools.count(1)
    say: Callable[[str], object] = (lambda text: None) if args.quiet else _print_line

    @server.event
    def on_ready() -> None:
        _print_line(f"echoes on {server.address} until Ctrl-C")

    @server.event
    def on_connected(conn: npipes.ServerConnection) -> None:
        conn.custom_data = f"connection {next(numbers)}"
        say(f"{conn.custom_data}: connected, {demo.describe_peer(conn)}")

    @server.event
    def on_message(conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        conn.write(data)

    @server.event
    def on_disconnected(conn: npipes.ServerConnection) -> None:
        say(f"{conn.custom_data}: disconnected")

    @server.event
    def on_error(conn: npipes.ServerConnection | None, error: npipes.PipeError) -> None:
        say(f"{conn.custom_data if conn else 'server'}: {error}")

    return server


def _print_line(text: str) -> None:
    # The line and its end in one piece: several workers print.
    print(text + "\n", end="", flush=True)
