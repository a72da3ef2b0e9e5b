"""Payloads that nobody thought of: random opcodes, and valid pickles with random changes."""

import copyreg
import os
import pickle
import time

import pickles
import plain_values
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import npipes
from npipes import plain

quick = settings(deadline=None, max_examples=250)
LONGEST = 5.0  # seconds, for payloads of at most some KiB; most take microseconds

modules = st.sampled_from([*plain._MODULES, "os", "sys", "copyreg", __name__, ""])
names = st.sampled_from(
    [
        "set",
        "frozenset",
        "bytearray",
        "complex",
        "range",
        "xrange",
        "slice",
        "getattr",
        "encode",
        "OrderedDict",
        "date",
        "time",
        "datetime",
        "timedelta",
        "timezone",
        "Decimal",
        "Fraction",
        "PropertyBag",
        "UUID",
        "ZoneInfo",
        "ZoneInfo._unpickle",
        "system",
        "eval",
        "modules",
        "_reconstructor",
        "canary",
        "canary.__globals__",
        "",
    ]
)
small = st.integers(0, 8)
sizes = small | st.sampled_from([255, 65535, 2**31 - 1, 2**31, 2**32 - 1])
long_sizes = sizes | st.sampled_from([2**40, 2**63 - 1, 2**64 - 1])
arguments = st.one_of(
    st.text(max_size=5).map(pickles.text),
    st.sampled_from(["int", "is_safe", "latin1", "_unpickle", "UTC", "1", "1/3", "1e9999"]).map(pickles.text),
    st.binary(max_size=12).map(pickles.data),
    st.integers().map(pickles.number),
    st.sampled_from([pickle.NONE, pickle.NEWTRUE, pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET]),
    st.floats().map(lambda f: pickle.dumps(f, 2)[2:-1]),
    st.builds(pickles.name, modules, names),
)
counted = st.one_of(
    st.builds(
        lambda op, n: op + n.to_bytes(1, "little"), st.sampled_from([b"q", b"h", b"K", b"\x8a", b"C", b"\x8c", b"U"]), small
    ),
    st.builds(lambda op, n: op + n.to_bytes(4, "little"), st.sampled_from([b"r", b"j", b"J", b"\x8b", b"X", b"B", b"T"]), sizes),
    st.builds(lambda op, n: op + n.to_bytes(8, "little"), st.sampled_from([b"\x95", b"\x96", b"\x8d", b"\x8e"]), long_sizes),
)
calls = st.sampled_from(
    [
        pickle.TUPLE1 + pickle.REDUCE,
        pickle.TUPLE2 + pickle.REDUCE,
        pickle.TUPLE3 + pickle.REDUCE,
        pickle.TUPLE + pickle.REDUCE,
        pickle.EMPTY_TUPLE + pickle.REDUCE,
        pickle.EMPTY_TUPLE + pickle.NEWOBJ,
        pickle.EMPTY_TUPLE + pickle.EMPTY_DICT + pickle.NEWOBJ_EX,
        pickle.BUILD,
    ]
)
opcodes = st.integers(0, 255).map(lambda code: bytes([code])) | st.sampled_from(
    list(b"RbsaeutN]}()012\x85\x86\x87\x94\x81\x90\x91")
).map(lambda code: bytes([code]))
programs = st.lists(arguments | counted | calls | opcodes, max_size=40).map(lambda parts: b"\x80\5" + b"".join(parts) + b".")


called = []


def canary(*args):
    called.append(args)
    return canary


@pytest.fixture(autouse=True)
def nothing_else_runs(monkeypatch):
    """What the programs name, and is not theirs to call, tells when it is called."""
    called.clear()
    for module, name in ((os, "system"), (copyreg, "_reconstructor")):
        monkeypatch.setattr(module, name, canary)
    yield
    assert called == []


def read(payload, **options):
    begin = time.perf_counter()
    try:
        return npipes.loads(payload, **options)
    except npipes.UnsafePayloadError:
        return None
    finally:
        assert time.perf_counter() - begin < LONGEST


@quick
@given(programs)
@example(b"\x80\5).")
@example(b").")
def test_random_programs_are_read_or_refused(payload):
    value = read(payload)
    npipes.dumps(value)


@quick
@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(payload):
    read(payload)
    read(payload + b".")


@quick
@given(plain_values.values, st.data())
def test_changed_pickles_are_read_or_refused(value, draw):
    payload = bytearray(npipes.dumps(value))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(payload) - 1))
        change = draw.draw(st.sampled_from(["flip", "set", "remove", "insert", "repeat", "cut"]))
        if change == "flip":
            payload[at] ^= 1 << draw.draw(st.integers(0, 7))
        elif change == "set":
            payload[at] = draw.draw(st.integers(0, 255))
        elif change == "remove":
            del payload[at : at + draw.draw(st.integers(1, 8))]
        elif change == "insert":
            payload[at:at] = draw.draw(arguments | counted | calls | opcodes)
        elif change == "repeat":
            payload[at:at] = payload[at : at + draw.draw(st.integers(1, 16))]
        else:
            del payload[at:]
        payload = payload or bytearray(b".")
    read(payload)


@quick
@given(programs)
def test_what_is_read_is_what_pickle_reads(payload):
    """Where both take it: the machine has no values of its own."""
    value = read(payload)
    if value is None:
        return
    try:
        theirs = pickle.loads(payload)
    except Exception:
        return
    assert plain_values.kinds(value) == plain_values.kinds(theirs)


@quick
@given(programs, st.lists(st.binary(max_size=3), max_size=3))
def test_random_programs_with_buffers_and_classes(payload, buffers):
    read(payload, buffers=buffers)
    with_a_class = payload.replace(pickles.name("decimal", "Decimal"), pickles.name(__name__, "Wrapped"))
    read(
        with_a_class.replace(pickles.name("fractions", "Fraction"), pickles.name(__name__, "wrap")),
        allow=[Wrapped, f"{__name__}.wrap"],
        buffers=buffers,
    )
    assert vars(Wrapped).keys() == BEFORE


class Wrapped:
    def __init__(self, *args, **kwargs):
        self.args = args


def wrap(*args):
    return Wrapped(*args)


BEFORE = set(vars(Wrapped))
