"""`npipes list [PATTERN]`: the live pipes."""

import argparse
import json

from npipes.cli.common import Commands, new_command
from npipes.cli.facts import Facts, facts_of_all
from npipes.cli.output import line, print_table, printable


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "list",
        run,
        "list the live pipes: owner, process and connections where the system or the server tells",
        "npipes list\nnpipes list 'work-*'\nnpipes list --json | jq -r '.[].name'",
    )
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="* is any text, ? one character")
    parser.add_argument("--json", action="store_true", help="a JSON array of objects")


def run(args: argparse.Namespace) -> int:
    found = facts_of_all(args.pattern)
    if args.json:
        line(json.dumps([as_object(facts) for facts in found], indent=2))
    elif found:
        columns = ("NAME", "OWNER", "PID", "CONNECTIONS")
        print_table(columns, [_row(facts) for facts in found], right=("PID", "CONNECTIONS"))
    return 0


def as_object(facts: Facts) -> dict[str, object]:
    return {
        "name": facts.name,
        "address": facts.address,
        "owner": facts.owner,
        "pid": facts.pid,
        "connections": facts.connections,
    }


def _row(facts: Facts) -> tuple[str, str, str, str]:
    cells = (facts.name, facts.owner, facts.pid, facts.connections)
    name, owner, pid, connections = ("-" if c is None else printable(str(c)) for c in cells)
    return name, owner, pid, connections
