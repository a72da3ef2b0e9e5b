"""`npipes info NAME`: what is known about one pipe."""

import argparse
import json

from npipes.cli.common import Commands, add_name, new_command
from npipes.cli.facts import facts_of
from npipes.cli.list import as_object
from npipes.cli.output import bytes_text, duration_text, line, printable


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "info",
        run,
        "tell what is known about one pipe and, with `serve --stats`, about its server",
        "npipes info demo\nnpipes info demo --json",
    )
    add_name(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object")


def run(args: argparse.Namespace) -> int:
    facts = facts_of(args.name)
    if args.json:
        more = {"mode": facts.mode, "server": facts.report}
        line(json.dumps(as_object(facts) | more, indent=2))
        return 0
    rows = [("address", facts.address), ("owner", facts.owner), ("process", facts.pid)]
    rows += [("connections", facts.connections), ("mode", facts.mode)]
    if facts.report:
        stats = facts.report["stats"]
        rows += [("up for", duration_text(facts.report.get("uptime", 0)))]
        rows += [(name.replace("_", " "), _value(name, stats[name])) for name in stats]
    for name, value in rows:
        line(f"{name + ':':<20} {'-' if value is None else printable(str(value))}")
    return 0


def _value(name: str, value: int) -> str:
    return bytes_text(value) if "bytes" in name else f"{value:,}"
