"""Plain values go as bytes and come back, whoever pickled them."""

import collections
import contextlib
import datetime
import decimal
import fractions
import gc
import json
import pickle
import subprocess
import sys
import uuid

import plain_values
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import WINDOWS, python_of

import npipes

quick = settings(deadline=None, max_examples=100)


@quick
@given(plain_values.values)
def test_plain_values_come_back(value):
    assert plain_values.kinds(npipes.loads(npipes.dumps(value))) == plain_values.kinds(value)


@quick
@given(plain_values.values, st.integers(2, 5))
def test_every_binary_protocol_is_read(value, protocol):
    data = pickle.dumps(value, protocol)
    assert plain_values.kinds(npipes.loads(data)) == plain_values.kinds(pickle.loads(data))


@quick
@given(plain_values.values)
def test_a_pickle_by_pickles_own_python_code_is_read(value):
    assert plain_values.kinds(npipes.loads(pickle._dumps(value, 5))) == plain_values.kinds(value)


@quick
@given(plain_values.values)
def test_it_reads_as_pickle_does(value):
    data = npipes.dumps(value)
    assert plain_values.kinds(pickle.loads(data)) == plain_values.kinds(npipes.loads(data))


def test_dumps_is_a_pickle_of_protocol_5():
    assert npipes.dumps([1]) == pickle.dumps([1], 5)


def test_identity_within_a_value_stays():
    inner = [1]
    got = npipes.loads(npipes.dumps([inner, inner, (inner,), {"x": inner}]))
    assert got[0] is got[1] is got[2][0] is got[3]["x"]
    around = []
    around.append((around, {"around": around}))
    got = npipes.loads(npipes.dumps(around))
    assert got[0][0] is got and got[0][1]["around"] is got


def test_large_values_come_back():
    value = {
        "list": list(range(100_000)),
        "text": "ü" * 300_000,
        "bytes": bytes(300_000),
        "array": bytearray(300_000),
        "number": 1 << 1_000_000,
        "mapping": {str(i): i for i in range(50_000)},
        "set": set(range(50_000)),
    }
    for protocol in (2, 4, 5):
        assert npipes.loads(pickle.dumps(value, protocol)) == value


def test_not_a_number_and_the_like():
    got = npipes.loads(npipes.dumps([float("nan"), float("inf"), -0.0, decimal.Decimal("NaN"), decimal.Decimal("sNaN")]))
    assert [str(x) for x in got] == ["nan", "inf", "-0.0", "NaN", "sNaN"]


def test_uuids_keep_what_is_known_of_them():
    for safe in uuid.SafeUUID:
        got = npipes.loads(npipes.dumps(uuid.UUID(int=5, is_safe=safe)))
        assert (got, got.is_safe) == (uuid.UUID(int=5), safe)


def test_zones_are_those_of_this_process():
    zoneinfo = pytest.importorskip("zoneinfo")
    if "Europe/Berlin" not in zoneinfo.available_timezones():
        pytest.skip("this machine has no time zones")
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    assert npipes.loads(npipes.dumps(zone)) is zone
    assert npipes.loads(npipes.dumps(zoneinfo.ZoneInfo.no_cache("Europe/Berlin"))) is zone
    time = datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone)
    got = npipes.loads(npipes.dumps(time))
    assert (got, got.fold, got.utcoffset()) == (time, 1, datetime.timedelta(hours=1))


def test_classes_that_are_plain_are_values():
    for cls in (datetime.date, decimal.Decimal, set, range, npipes.PropertyBag):
        assert npipes.loads(npipes.dumps(cls)) is cls


def test_a_large_fraction_is_a_fraction_of_4300_digits():
    fraction = fractions.Fraction(10**4299 + 1, 3 * 10**4299 + 7)
    assert npipes.loads(npipes.dumps(fraction)) == fraction
    with pytest.raises(npipes.UnsafePayloadError, match="4300 digits"):
        npipes.loads(npipes.dumps(fractions.Fraction(10**4310 + 1, 7)))


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda b: memoryview(b + b"x")[:-1]])
def test_any_bytes_like_object_is_read(make):
    assert npipes.loads(make(npipes.dumps({"a": 1}))) == {"a": 1}


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_nothing_else_is_read(data):
    with pytest.raises(TypeError):
        npipes.loads(data)
    with pytest.raises(TypeError):
        npipes.loads(data, trusted=True)


def test_the_error_says_what_and_where():
    error = pytest.raises(npipes.UnsafePayloadError, npipes.loads, npipes.dumps(collections.deque([1]))).value
    assert str(error).startswith("collections.deque is not allowed, at byte ")
    assert isinstance(error, (pickle.UnpicklingError, ValueError))
    assert type(error).__module__ == "npipes"
    error = pytest.raises(npipes.UnsafePayloadError, npipes.loads, b"\x80\5}]Ns.").value
    said = pytest.raises(TypeError, {}.__setitem__, [], None).value
    assert str(error) == f"TypeError: {said}, at byte 5 of 7"
    assert isinstance(error.__cause__, TypeError)


def test_nothing_is_left_of_what_was_refused():
    payloads = [npipes.dumps([[i], {"x": (i,)}, {i}, decimal.Decimal(i), uuid.uuid4()])[:-1] + b"\xff" for i in range(20)]

    def refuse_all():
        for payload in payloads:
            for size in range(1, len(payload), 3):
                for part in (payload[:size], payload[:size] + b"."):
                    with contextlib.suppress(npipes.UnsafePayloadError):
                        npipes.loads(part)
        gc.collect()
        return len(gc.get_objects())

    refuse_all()
    first = refuse_all()
    assert refuse_all() <= first + 20


# ---- other versions of Python --------------------------------------------

WRITE = """
import datetime, decimal, fractions, pickle, sys, uuid, zoneinfo, collections
values = {
    "numbers": [1, -1, 2**70, 1.5, 1j, True, None], "text": "ü\\U0001f600", "bytes": b"x" * 300, "array": bytearray(b"y"),
    "containers": [(), (1,), [2], {3}, frozenset([4]), {"five": 5}, collections.OrderedDict(six=6)],
    "times": [datetime.date(2024, 2, 29), datetime.time(1, 2, 3, 4, fold=1), datetime.timedelta(-1, 2, 3),
              datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
              datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "X"))],
    "exact": [decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=5)], "ranges": [range(5), slice(1, None)],
}
"""
OURS = {}
exec(WRITE, OURS)


@pytest.mark.parametrize("version", [f"3.{minor}" for minor in range(9, 15)])
def test_bags_are_read_by_other_versions_of_python_and_theirs_here(version):
    """Contents are what pickle of protocol 5 makes of a dict, which is what a bag asks it for."""
    python = python_of(version)
    bag = npipes.PropertyBag()
    bag.update(OURS["values"])
    program = WRITE + (
        "ours = bytes.fromhex(sys.stdin.read())\n"
        "assert pickle.loads(ours) == values\n"
        "print(pickle.dumps(values, 5).hex(), pickle.dumps(values).hex())\n"
    )
    done = subprocess.run([python, "-c", program], input=bag.contents.hex(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for theirs in done.stdout.split():
        assert npipes.PropertyBag(bytes.fromhex(theirs)) == bag
        assert plain_values.kinds(npipes.loads(bytes.fromhex(theirs))) == plain_values.kinds(OURS["values"])


def test_text_of_python_2_is_text():
    assert npipes.loads(b"\x80\2]q\1(U\3abcq\2T\3\0\0\0defq\3e.") == ["abc", "def"]
    assert npipes.loads(b"\x80\2c__builtin__\nset\nq\0]q\1(K\1K\2e\x85q\2Rq\3.") == {1, 2}
    with pytest.raises(npipes.UnsafePayloadError):
        npipes.loads(b"\x80\2U\1\xff.")


def test_import_of_npipes_needs_none_of_what_payloads_may_name():
    program = "import sys, npipes; print([m for m in ('decimal', 'fractions', 'uuid', 'zoneinfo', 'multiprocessing') if m in sys.modules])"
    from support import child_environment

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=child_environment(), timeout=60)
    assert json.loads(done.stdout) == [] or WINDOWS
