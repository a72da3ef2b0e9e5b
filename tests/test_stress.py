"""The programs of tests/stress, for a moment: what they check must hold, and they must be able to fail."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support import child_environment, is_wine

STRESS = Path(__file__).resolve().parent / "stress"


def run(program, *args):
    return run_to_end(str(STRESS / program), *args)


def run_to_end(*args):
    return subprocess.run(
        [sys.executable, *args],
        env=child_environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=110,
    )


def test_a_soak_finds_nothing():
    done = run("soak.py", "--seconds", "4", "--seed", "1")
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout and " answers" in done.stdout


def test_clients_that_never_read_do_not_hold_up_broadcasts():
    # Who is held up by one of them waits for ever; the rest is how busy the machine is.
    done = run("broadcast.py", "--clients", "40", "--stalled", "10", "--messages", "60", "--rounds", "1", "--slack", "3000")
    assert done.returncode == 0, done.stdout


def test_a_soak_sees_what_is_wrong_with_a_message():
    spec = importlib.util.spec_from_file_location("messages", STRESS / "messages.py")
    messages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(messages)
    rng = random.Random(1)
    good = [messages.make(b"M", number, rng, 100) for number in range(3)]
    numbers = messages.Numbers()
    numbers.check(good[0])
    for bad in (good[2], good[0], good[1][:-1], good[1] + b"x", good[1][:-1] + bytes([good[1][-1] ^ 1])):
        with pytest.raises(messages.Wrong):
            messages.Numbers.check(_copy(numbers), bad)
    numbers.check(good[1])


def _copy(numbers):
    copy = type(numbers)()
    copy.answers, copy.broadcasts = numbers.answers, numbers.broadcasts
    return copy


@pytest.mark.parametrize(
    "case", ["clients", "abandoned_clients", "manager", "listener", "aio", "servers", "dropped_servers", "stops"]
)
def test_connections_servers_and_stops_leave_nothing(case):
    connections, servers, stops = (40, 4, 6) if is_wine() else (200, 20, 30)
    done = run("leaks.py", "--here", "--connections", str(connections), "--servers", str(servers), "--stops", str(stops), case)
    assert done.returncode == 0, done.stdout
    assert f"{case}: " in done.stdout


def test_whoever_is_left_when_the_other_side_is_killed_goes_on():
    done = run("kills.py", "--kills", "4" if is_wine() else "20", "--seed", "1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("times killed") == 2


def test_a_leak_is_found():
    program = f"""
import sys
sys.path.insert(0, {str(STRESS)!r})
import leaks

kept = []

def leaky(count):
    yield
    kept.extend(open(__import__("os").devnull) for _ in range(count))
    yield

leaks.leaky = leaky
sys.exit(leaks.run_case("leaky", 40))
"""
    done = run_to_end("-c", program)
    assert done.returncode == 1 and "LEAKS" in done.stdout, done.stdout
