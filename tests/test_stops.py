"""Ends in the middle of traffic: the program of tests/stress, for a moment."""

from pathlib import Path

import pytest
from support import is_wine, run_python

PROGRAM = """
    import sys
    sys.path[:0] = sys.argv[1:3]
    import stops
    stops.main(sys.argv[3], int(sys.argv[4]))
"""


@pytest.mark.parametrize("way", ["thread", "handler", "del", "aio-close", "aio-closed-loop", "aio-dropped"])
def test_a_stop_amid_traffic_ends_every_connection_and_write_once(way):
    tests = Path(__file__).resolve().parent
    count = 10 if is_wine() else 30
    said = run_python(PROGRAM, tests / "stress", tests, way, count, timeout=120)
    assert said == f"{count} stops by {way}\n"
