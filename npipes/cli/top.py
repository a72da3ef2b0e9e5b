"""`npipes top NAME`: a live screen of a server's counters, from its stats pipe."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import npipes
from npipes import stats
from npipes.cli.common import Commands, Failed, add_name, new_command, positive, positive_seconds
from npipes.cli.output import bytes_text, console, duration_text, line, printable, table

_MAX_PEERS = 20  # lines of the screen


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "top",
        run,
        "watch the counters of a server that publishes them (`serve --stats`, npipes.stats.StatsPipe)",
        "npipes top demo\nnpipes top demo --interval 5\nnpipes top demo --count 1",
    )
    add_name(parser)
    parser.add_argument(
        "--interval",
        type=positive_seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks (default 1)",
    )
    parser.add_argument("--count", type=positive, metavar="N", help="end after N looks")


def run(args: argparse.Namespace) -> int:
    before = _fetch(args.name)
    then = time.monotonic()
    with _screen() as show:
        count = 0
        while count != args.count:
            time.sleep(args.interval)
            after, now = _fetch(args.name), time.monotonic()
            show(after, rates(before, after, now - then))
            before, then = after, now
            count += 1
    return 0


def _fetch(name: str) -> dict[str, Any]:
    try:
        return stats.fetch(name)
    except npipes.PipeNotFoundError:
        raise Failed(f"no server of {name} publishes its counters; `npipes serve {name} --stats` does") from None


def rates(before: dict[str, Any], after: dict[str, Any], elapsed: float) -> dict[str, float]:
    """Messages and bytes a second; 0 where a server was started anew between the looks."""
    names = ("messages_in", "messages_out", "bytes_in", "bytes_out")
    return {n: max(0.0, (after["stats"][n] - before["stats"][n]) / elapsed) for n in names}


# ---- showing -------------------------------------------------------------

_Show = Callable[[dict[str, Any], dict[str, float]], None]


@contextlib.contextmanager
def _screen() -> Iterator[_Show]:
    terminal = console(sys.stdout)
    if terminal is None:
        yield _show_line
        return
    from rich.live import Live

    with Live(console=terminal, auto_refresh=False, screen=True) as live:
        yield lambda report, rate: live.update(_picture(report, rate), refresh=True)


def _show_line(report: dict[str, Any], rate: dict[str, float]) -> None:
    counters = report["stats"]
    line(
        f"{time.strftime('%H:%M:%S')}  {counters['connections']} connections"
        f"  in {rate['messages_in']:,.0f}/s {bytes_text(rate['bytes_in'])}/s"
        f"  out {rate['messages_out']:,.0f}/s {bytes_text(rate['bytes_out'])}/s"
        f"  queued {bytes_text(counters['queued_bytes'])}  errors {counters['errors']:,}"
    )


def _picture(report: dict[str, Any], rate: dict[str, float]) -> Any:
    from rich.console import Group
    from rich.text import Text

    counters = report["stats"]
    head = f"{printable(str(report.get('address')))}  process {report.get('pid')}  up {duration_text(report.get('uptime', 0))}"
    flow = [
        (
            way,
            f"{rate[f'messages_{way}']:,.0f}",
            f"{bytes_text(rate[f'bytes_{way}'])}",
            f"{counters[f'messages_{way}']:,}",
            bytes_text(counters[f"bytes_{way}"]),
        )
        for way in ("in", "out")
    ]
    state = (
        f"connections {counters['connections']:,} of {counters['connections_total']:,}"
        f"  queued {bytes_text(counters['queued_bytes'])}, {counters['queued_events']:,} events"
        f"  errors {counters['errors']:,}"
    )
    columns = ("", "MESSAGES/S", "BYTES/S", "MESSAGES", "BYTES")
    peers = report.get("peers", [])
    rows = [
        (str(p.get("pid") or "-"), printable(str(p.get("user") or "-")), bytes_text(p["pending_bytes"]))
        for p in sorted(peers, key=lambda p: -p["pending_bytes"])[:_MAX_PEERS]
    ]
    return Group(
        Text(head, style="bold"),
        Text(state),
        Text(),
        table(columns, flow, right=columns[1:]),
        Text(),
        table(("PID", "USER", "PENDING"), rows, right=("PID", "PENDING")),
    )
