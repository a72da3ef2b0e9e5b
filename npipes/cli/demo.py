"""`npipes demo`."""

import argparse

from npipes import demo
from npipes.cli.common import Commands, new_command


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "demo",
        run,
        "a server and a client process: what they do, as it happens, and how fast",
        "npipes demo\nnpipes demo --no-rate",
    )
    parser.add_argument("--no-rate", action="store_true", help="do not measure the echo rate")


def run(args: argparse.Namespace) -> int:
    return demo.run(with_rate=not args.no_rate)
