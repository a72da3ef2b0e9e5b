"""`npipes serve NAME`: a server until Ctrl-C that echoes, starts processes, or broadcasts."""

import argparse
import itertools
from collections.abc import Callable

import npipes
from npipes import demo
from npipes.cli.broadcast import Broadcast
from npipes.cli.common import (
    Commands,
    access,
    add_authkey,
    add_byte,
    add_name,
    authkey_of,
    new_command,
    positive,
    sigterm_as_ctrl_c,
)
from npipes.cli.output import line
from npipes.cli.processes import Processes
from npipes.cli.work import Echo, Work
from npipes.stats import StatsPipe


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "serve",
        run,
        "keep a server up until Ctrl-C",
        """
npipes serve demo --echo
npipes serve calc --exec "bc -l"           one process a client, its messages as lines
tail -f log | npipes serve news --broadcast
npipes serve demo --echo --stats           and `npipes top demo` elsewhere
""",
    )
    add_name(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--echo", action="store_true", help="answer every message with itself")
    what.add_argument(
        "--exec",
        dest="program",
        metavar="CMD",
        help="start this for each client: its messages are lines of standard input, lines of the output are messages to it",
    )
    what.add_argument(
        "--broadcast",
        action="store_true",
        help="send each line of standard input to every client, until its end",
    )
    add_byte(parser)
    parser.add_argument(
        "--access",
        type=access,
        default="user",
        help="who may connect: user (default), everyone, a mode such as 660 or group:NAME (Linux), SDDL (Windows)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="worker threads (default 1)")
    parser.add_argument(
        "--max-clients",
        type=positive,
        metavar="N",
        help="no more clients than this at a time; others wait",
    )
    parser.add_argument("--stats", action="store_true", help="let `npipes top` and `npipes info` see the counters")
    parser.add_argument("--quiet", action="store_true", help="print no line for each connection")
    add_authkey(parser)


def run(args: argparse.Namespace) -> int:
    if not (args.echo or args.broadcast or args.program):
        args.parser.error("serve needs --echo, --exec CMD or --broadcast")
    if args.program is not None and args.byte:
        args.parser.error("--exec takes messages, so it can't be with --byte")
    say: Callable[[str], object] = (lambda text: None) if args.quiet else line
    with sigterm_as_ctrl_c():
        try:
            stats = _serve(args, say)
        except ValueError as error:
            args.parser.error(str(error))
    line(
        f"{stats.connections_total} connections,"
        f" {stats.messages_in} messages ({stats.bytes_in} bytes) in,"
        f" {stats.messages_out} ({stats.bytes_out} bytes) out, {stats.errors} errors"
    )
    return 0


def _serve(args: argparse.Namespace, say: Callable[[str], object]) -> npipes.Stats:
    work = _work(args, say)
    server = _server(args, work, say)
    publisher = StatsPipe(server) if args.stats else None
    # Not `with`: Ctrl-C may come between a start and what would undo it.
    try:
        if publisher:  # before the server, so that it is there when the server is
            publisher.start()
        server.start()
        work.begin(server)
        server.run()
    except KeyboardInterrupt:
        pass  # what ends it
    finally:
        server.stop()
        if publisher:
            publisher.stop()
        work.end()
    return server.stats


def _server(args: argparse.Namespace, work: Work, say: Callable[[str], object]) -> npipes.Server:
    server = npipes.Server(
        args.name,
        threads=args.threads,
        free_threading_events=True,
        continuous_read=work.continuous_read,
        max_instances=args.max_clients,
        mode="byte" if args.byte else "message",
        access=args.access,
        authkey=authkey_of(args),
        on_message=work.message,
        on_drained=work.drained,
    )
    numbers = itertools.count(1)

    @server.event
    def on_ready() -> None:
        line(f"{work.title} on {server.address} until Ctrl-C")

    @server.event
    def on_connected(conn: npipes.ServerConnection) -> None:
        conn.custom_data = f"connection {next(numbers)}"
        say(f"{conn.custom_data}: connected, {demo.describe_peer(conn)}")
        work.connected(conn)

    @server.event
    def on_disconnected(conn: npipes.ServerConnection) -> None:
        say(f"{conn.custom_data}: disconnected")
        work.disconnected(conn)

    @server.event
    def on_error(conn: npipes.ServerConnection | None, error: npipes.PipeError) -> None:
        say(f"{conn.custom_data if conn else 'server'}: {error}")

    return server


def _work(args: argparse.Namespace, say: Callable[[str], object]) -> Work:
    if args.program is not None:
        processes = Processes(args.program, say)
        processes.check()
        return processes
    return Broadcast() if args.broadcast else Echo()
