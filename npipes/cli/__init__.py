"""The command line: `npipes COMMAND`, `python -m npipes COMMAND`.

`common` has what the commands share, `output` how they print; each command is a file of its own with
`add(commands)`, which adds its parser, and `run(args)`, which returns the exit code.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import npipes
from npipes.cli import bench, bridge, completion, demo, info, listen, send, serve, top
from npipes.cli import list as list_command
from npipes.cli.common import Failed

__all__ = ["build_parser", "main"]

_COMMANDS = (demo, serve, send, listen, list_command, info, top, bench, bridge, completion)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.  Returns its exit code: 0 done, 1 failed, 2 cannot be, 130 interrupted.

    Raises SystemExit(2) for wrong arguments.  Main thread only, for the signals.
    """
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    try:
        result: int = args.run(args)
        return result
    except KeyboardInterrupt:
        return _say(130, "interrupted")
    except BrokenPipeError as error:
        if isinstance(error, npipes.PipeError):
            return _say(1, f"npipes {args.command}: {_reason(error)}")
        # Who read the output has gone.  What is left in the buffer is not to fail at exit again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ValueError as error:
        return _say(2, f"npipes {args.command}: {error}")
    except (Failed, OSError) as error:
        return _say(1, f"npipes {args.command}: {_reason(error)}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="npipes",
        description="Message-based IPC for processes on one machine.",
        epilog="`npipes COMMAND --help` has the options and examples of a command.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"npipes {npipes.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def _say(code: int, text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


def _reason(error: Exception) -> str:
    """One line about what went wrong, without the number that an OSError's text begins with."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return " ".join(text.split()) or type(error).__name__
