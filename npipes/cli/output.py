"""How commands print: with rich on a terminal where it is installed, else plain text."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import rich.console


def console(stream: TextIO) -> "rich.console.Console | None":
    """rich's console for a stream that is a terminal; None: print plain text."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream)


def line(text: str) -> None:
    """One line to stdout, at once; its end in one piece with it, as several threads print."""
    print(text + "\n", end="", flush=True)


# ---- tables --------------------------------------------------------------


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> Any:
    """A table of rich's."""
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # What others chose, names for instance, is no markup.
        result.add_row(*(Text(cell) for cell in row))
    return result


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = []
    for row in (columns, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    terminal = console(sys.stdout)
    if terminal is not None:
        terminal.print(table(columns, rows, right))
    else:
        line(plain_table(columns, rows, right))


def printable(text: str) -> str:
    """Text of somebody else's without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# ---- quantities ----------------------------------------------------------


def bytes_text(count: float) -> str:
    """A number of bytes for people: 512 B, 1.5 KiB, 20.0 MiB."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def duration_text(seconds: float) -> str:
    """A time for people: 0.4 s, 12 s, 3:05, 1:00:00."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# ---- progress ------------------------------------------------------------


class Progress:
    """A bar on stderr with rate and time left, on a terminal only; drawn once it takes a second.

    total None: not known.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._begin = time.monotonic()
        self._drawn = 0.0
        self._rich: Any = None
        self._plain = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._rich is not None:
            self._rich.stop()
        elif self._plain:
            print(file=sys.stderr, flush=True)

    def show(self, done: int) -> None:
        """So many bytes are done."""
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._begin < 1 or now - self._drawn < 0.1:
            return
        self._drawn = now
        if self._rich is None and not self._plain:
            self._start()
        if self._rich is not None:
            self._rich.update(self._task, completed=done)
        else:
            text = progress_text(self._what, done, self._total, now - self._begin)
            print("\r" + text.ljust(70), end="", file=sys.stderr, flush=True)

    def _start(self) -> None:
        terminal = console(sys.stderr)
        if terminal is None:
            self._plain = True
            return
        from rich import progress

        self._rich = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=terminal,
        )
        self._task = self._rich.add_task(self._what, total=self._total)
        self._rich.start()


def progress_text(what: str, done: int, total: int | None, elapsed: float) -> str:
    """A line about a transfer: what is done, how fast, what is left."""
    rate = done / elapsed if elapsed > 0 else 0.0
    text = f"{what}  {bytes_text(done)}"
    if total:
        text += f" of {bytes_text(total)} ({100 * done // total} %)"
    text += f"  {bytes_text(rate)}/s"
    if total and rate:
        text += f"  {duration_text((total - done) / rate)} left"
    return text


# ---- messages ------------------------------------------------------------


def format_message(data: bytes, form: str) -> str:
    """A message as text: `text`, `hex`, `base64` or `json` (a JSON string or, if not UTF-8, base64)."""
    if form == "hex":
        return data.hex()
    if form == "base64":
        import base64

        return base64.b64encode(data).decode()
    if form == "json":
        import base64
        import json

        try:
            return json.dumps({"text": data.decode()})
        except UnicodeDecodeError:
            return json.dumps({"base64": base64.b64encode(data).decode()})
    text = data.decode(errors="backslashreplace")
    return printable(text) if sys.stdout.isatty() else text


FORMATS = ("text", "hex", "base64", "json", "raw")


def write_message(data: bytes, form: str) -> None:
    """A message to stdout: a line, or with `raw` its bytes and nothing else."""
    if form == "raw":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        line(format_message(data, form))
