"""`npipes bench`: round trips, a pipeline and large messages, measured here and now."""

import argparse
import contextlib
import gc
import json
import os
import platform
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import npipes
from npipes.cli.common import Commands, Failed, new_command, positive_seconds, size
from npipes.cli.output import bytes_text, line, print_table

if TYPE_CHECKING:
    from npipes.cli.bench_peers import Peer

ROUNDS = 3  # turns that each server has; machines are not equally fast all the time
WINDOW = 64  # messages of a pipeline that are on their way at once
WARM_UP = 0.05  # seconds


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "bench",
        run,
        "measure echo round trips, a pipeline and large messages with a server in a process of its own",
        """
npipes bench
npipes bench --compare                     beside multiprocessing.connection and asyncio streams
npipes bench --size 4k --large 64M --seconds 5
npipes bench --json > result.json
""",
    )
    parser.add_argument(
        "--seconds",
        type=positive_seconds,
        default=1.0,
        help="time for each measurement of each server (default 1)",
    )
    parser.add_argument("--size", type=size, default=64, help="of round trips and pipeline (default 64 bytes)")
    parser.add_argument("--large", type=size, default=8 << 20, help="of large messages (default 8M)")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="measure multiprocessing.connection and asyncio streams in turns with it",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object, times in seconds")


def run(args: argparse.Namespace) -> int:
    if max(args.size, args.large) > 64 << 20:
        raise ValueError("messages of more than 64 MiB are not measured")
    kinds = ["npipes", "multiprocessing", "asyncio"] if args.compare else ["npipes"]
    results = {kind: Result() for kind in kinds}
    with contextlib.ExitStack() as stack:
        peers = {kind: stack.enter_context(_peer(kind)) for kind in kinds}
        for measure in (_round_trips, _pipeline, _large):
            for kind in kinds:
                measure(peers[kind], args, WARM_UP, Result())
            for _ in range(ROUNDS):
                for kind in kinds:
                    measure(peers[kind], args, args.seconds / ROUNDS, results[kind])
    if args.json:
        line(json.dumps(_as_object(args, results), indent=2))
    else:
        _print(args, results)
    return 0


class Result:
    """What was measured of one server: times of round trips, and rates, one a turn."""

    def __init__(self) -> None:
        self.times: list[float] = []  # seconds
        self.trip_rates: list[float] = []  # round trips a second
        self.pipeline_rates: list[float] = []  # messages a second
        self.large_rates: list[float] = []  # bytes a second, there and back counted once

    def percentile(self, share: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    import statistics  # here: other commands would take time to start for it

    return statistics.median(values)


# ---- measuring -----------------------------------------------------------


@contextlib.contextmanager
def _peer(kind: str) -> "Iterator[Peer]":
    """A client of a new server."""
    from npipes.cli.bench_peers import CLIENTS

    address = npipes.address(f"npipes-bench-{os.getpid()}-{kind}")
    # -P: nothing of the working directory, or of this one, is to be taken for something else.
    command = [sys.executable, "-P", "-m", "npipes.cli.bench_peers", kind, address]
    home = os.path.dirname(os.path.dirname(npipes.__file__))
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline().strip() != b"up":
            raise Failed(f"the server of {kind} has not come up")
        client = CLIENTS[kind](address)
        try:
            yield client
        finally:
            client.close()
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if sys.platform != "win32":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _round_trips(peer: "Peer", args: argparse.Namespace, seconds: float, result: Result) -> None:
    message = os.urandom(args.size)
    clock = time.perf_counter
    times: list[float] = []
    with _undisturbed():
        begin = last = clock()
        end = begin + seconds

        def note() -> None:
            nonlocal last
            now = clock()
            times.append(now - last)
            last = now

        peer.calls(message, lambda: last >= end, note)
    result.times += times
    result.trip_rates.append(len(times) / (last - begin))


def _pipeline(peer: "Peer", args: argparse.Namespace, seconds: float, result: Result) -> None:
    # So many that what is on its way fits the system's buffers: nobody may wait for the other in vain.
    count = max(1, min(WINDOW, 4096 // args.size))
    messages = [os.urandom(args.size)] * count
    result.pipeline_rates.append(_rate(peer, messages, seconds))


def _large(peer: "Peer", args: argparse.Namespace, seconds: float, result: Result) -> None:
    messages = [bytes(args.large)]
    result.large_rates.append(_rate(peer, messages, seconds) * args.large)


def _rate(peer: "Peer", messages: Sequence[bytes], seconds: float) -> float:
    """Messages a second."""
    expected = sum(map(len, messages))
    count = 0
    with _undisturbed():
        begin = time.perf_counter()
        while True:
            if peer.pipeline(messages) != expected:
                raise Failed("not all that was sent came back")
            count += len(messages)
            elapsed = time.perf_counter() - begin
            if elapsed >= seconds:
                return count / elapsed


# ---- showing -------------------------------------------------------------


def histogram(times: Sequence[float], width: int = 40) -> list[str]:
    """Lines with a bar each: how many took how long, in steps that double twice."""
    bounds = [1e-6 * 2 ** (step / 2) for step in range(80)]
    counts = Counter(min(bisect_right(bounds, value), len(bounds) - 1) for value in times)
    most = max(counts.values())
    lines = []
    for step in range(min(counts), max(counts) + 1):
        count = counts[step]
        bar = _BAR * round(width * count / most) or ("." if count else "")
        lines.append(f"{'< ' + time_text(bounds[step]):>11}  {count:>8,}  {bar}".rstrip())
    return lines


_BAR = "#"


def time_text(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _print(args: argparse.Namespace, results: dict[str, Result]) -> None:
    line(f"npipes {npipes.__version__}, Python {platform.python_version()}, {platform.platform()}")
    line(f"\nround trips of {bytes_text(args.size)} with npipes, by the time each took:")
    for text in histogram(results["npipes"].times):
        line(text)
    line("")
    columns = ["", "ROUND TRIPS/S", "MEDIAN", "99 %", "PIPELINE MESSAGES/S"]
    columns.append(f"{bytes_text(args.large)} MESSAGES")
    rows = []
    for kind, result in results.items():
        rows.append(
            [
                kind,
                f"{median(result.trip_rates):,.0f}",
                time_text(result.percentile(0.5)),
                time_text(result.percentile(0.99)),
                f"{median(result.pipeline_rates):,.0f}",
                f"{bytes_text(median(result.large_rates))}/s",
            ]
        )
    print_table(columns, rows, right=columns[1:])


def _as_object(args: argparse.Namespace, results: dict[str, Result]) -> dict[str, Any]:
    return {
        "npipes": npipes.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "seconds": args.seconds,
        "size": args.size,
        "large": args.large,
        "results": {
            kind: {
                "round_trips_per_second": median(result.trip_rates),
                "round_trip_median": result.percentile(0.5),
                "round_trip_99": result.percentile(0.99),
                "pipeline_messages_per_second": median(result.pipeline_rates),
                "large_bytes_per_second": median(result.large_rates),
            }
            for kind, result in results.items()
        },
    }
