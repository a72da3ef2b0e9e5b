"""Measures echo throughput beside its peers and records it, with the machine, as JSON; draws the record.

    python tests/bench/record.py run docs/performance/linux.json [--rounds N] [--seconds S]
    python tests/bench/record.py draw docs/performance/linux.json docs/performance/linux.svg

Throughput is that of linux.py and aio.py: ratios to raw C, medians of the rounds, one core.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
from pathlib import Path

from linux import measure

KINDS = ["free", "run", "async-for", "callback", "uvloop", "asyncio", "asyncio-streams", "multiprocessing"]
LABELS = {
    "free": "npipes, on a worker",
    "run": "npipes, in run()",
    "callback": "npipes.aio, function",
    "async-for": "npipes.aio, async for",
    "uvloop": "uvloop, Protocol",
    "asyncio": "asyncio, Protocol",
    "asyncio-streams": "asyncio, streams",
    "multiprocessing": "multiprocessing",
}
LOADS = {
    "1 1 64": "1 client, one message of 64 bytes at a time",
    "1 64 64": "1 client, 64 messages of 64 bytes under way",
    "16 16 64": "16 clients, 16 messages of 64 bytes under way",
    "1 4 1048576": "1 client, 4 messages of 1 MiB under way",
}


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def run(file: Path, rounds: int, seconds: float) -> None:
    arguments = argparse.Namespace(rounds=rounds, seconds=seconds, unpinned=False, kinds=KINDS, loads=list(LOADS))
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="np-bench-") as folder:
        medians = measure(arguments, Path(folder))
    record = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": round(before, 2),
        "rounds": rounds,
        "seconds_of_a_sample": seconds,
        "of_raw_c": {kind: {load: round(medians[kind, load], 3) for load in LOADS} for kind in KINDS},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def draw(file: Path, picture: Path) -> None:
    """One group of bars for each load; plain SVG."""
    record = json.loads(file.read_text())
    values = record["of_raw_c"]
    width, left, bar, gap, head = 760, 190, 18, 4, 30
    lines = []
    y = 10
    for load, title in LOADS.items():
        most = max(1.0, *(values[kind][load] for kind in LABELS))
        scale = (width - left - 60) / most
        lines.append(f'<text x="10" y="{y + 16}" font-weight="bold">{title}</text>')
        top = y + head
        y = top
        for kind, label in LABELS.items():
            value = values[kind][load]
            colour = "#2962a8" if label.startswith("npipes") else "#9aa3ad"
            lines.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{label}</text>')
            lines.append(f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="{bar}" fill="{colour}"/>')
            lines.append(f'<text x="{left + value * scale + 6:.1f}" y="{y + 14}">{value:.2f}</text>')
            y += bar + gap
        x = left + scale
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{y}" stroke="#c0392b" stroke-dasharray="4 3"/>')
        y += 14
    body = "\n".join(lines)
    picture.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" '
        f'font-family="sans-serif" font-size="13" fill="#222">\n'
        f'<rect width="{width}" height="{y}" fill="white"/>\n{body}\n</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("file", type=Path)
    running.add_argument("--rounds", type=int, default=5)
    running.add_argument("--seconds", type=float, default=0.2)
    drawing = commands.add_parser("draw")
    drawing.add_argument("file", type=Path)
    drawing.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.file, arguments.rounds, arguments.seconds)
    else:
        draw(arguments.file, arguments.picture)


if __name__ == "__main__":
    main()
