"""Ends in the middle of traffic, and what is left after many of them: the programs of tests/life, briefly."""

import sys

import pytest
from support import is_wine, run_python

PROGRAM = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import {module}
    {module}.main(sys.argv[2], int(sys.argv[3]))
"""


def run(module, what, count):
    home = next(path for path in sys.path if path.endswith("tests")) + "/life"
    return run_python(PROGRAM.format(module=module), home, what, count, timeout=120)


@pytest.mark.parametrize("way", ["thread", "handler", "del", "aio-close", "aio-closed-loop",
                                 "aio-dropped"])
def test_a_stop_amid_traffic_ends_every_connection_and_write_once(way):
    count = 20 if is_wine() else 60
    assert run("stops", way, count) == f"{count} stops by {way}\n"


@pytest.mark.parametrize(("kind", "count"), [
    ("connections", 1000), ("managed", 500), ("aio", 500), ("servers", 60), ("aio-servers", 40)])
def test_nothing_is_left_of_connections_and_servers_that_ended(kind, count):
    if is_wine():
        count //= 5
    assert f"{count} {kind} in" in run("leaks", kind, count)
