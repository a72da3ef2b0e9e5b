"""What a payload may cost: depth, time and memory are bounded by its bytes."""

import collections
import contextlib
import itertools
import pickle
import random
import threading
import time
from pathlib import Path
from pickle import (
    ADDITEMS,
    APPEND,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    FROZENSET,
    MARK,
    MEMOIZE,
    NEWOBJ,
    NONE,
    POP,
    SETITEM,
    TUPLE1,
    TUPLE2,
)

import pytest
from pickles import call, data, get, list_of, name, number, put, refused, text, whole
from support import interrupted, linux_only, run_python

import npipes

ME = __name__
TESTS = str(Path(__file__).parent)

# ---- depth ---------------------------------------------------------------

DEEP = 1_000_000


@pytest.mark.parametrize(
    ("begin", "each", "end"),
    [
        (EMPTY_TUPLE, TUPLE1, b""),
        (MARK * DEEP, pickle.TUPLE, b""),
        (EMPTY_TUPLE, DUP + TUPLE2, b""),
        (MARK * DEEP, FROZENSET, b""),
        (EMPTY_LIST + MARK * DEEP, pickle.TUPLE, APPEND),
    ],
    ids=["tuple1", "tuple", "shared", "frozenset", "in-a-list"],
)
def test_deep_tuples_are_refused(begin, each, end):
    """hash() of one that is a million deep overflows the stack of C."""
    refused(whole(begin, each * DEEP, end), "nested more than 1000 deep")


def test_depth_that_is_allowed_can_be_hashed_in_any_thread():
    value = npipes.loads(whole(EMPTY_TUPLE, TUPLE1 * 999))
    results = []
    thread = threading.Thread(target=lambda: results.append(hash(value)))
    thread.start()
    thread.join()
    assert results == [hash(value)]
    assert npipes.loads(npipes.dumps(_nested(tuple, 300))) == _nested(tuple, 300)


def _nested(kind, depth):
    value = kind()
    for _ in range(depth):
        value = kind([value])
    return value


def test_depth_is_counted_through_what_is_made_of_arguments():
    part = call("builtins", "slice", NONE, NONE, NONE)
    assert npipes.loads(whole(part)) == slice(None)
    pair = name(ME, "Pair")
    begin = [NONE, TUPLE1, put(0), POP]
    step = [pair, get(0), NEWOBJ, TUPLE1, put(0), POP]
    refused(whole(*begin, *step * 2000, get(0)), "nested more than", allow=[Pair])


class Pair(tuple):
    __slots__ = ()

    def __new__(cls, item):
        return super().__new__(cls, (item,))


def test_deep_lists_and_mappings_come_and_go():
    run_python("""
        import npipes, pickle
        deep = 200_000
        for begin, each in ((pickle.EMPTY_LIST, pickle.APPEND), (pickle.EMPTY_DICT + pickle.NONE, pickle.SETITEM)):
            value = npipes.loads(begin * deep + pickle.NONE + each * deep + pickle.STOP)
            assert type(value) in (list, dict)
            del value
        mapping = b"ccollections\\nOrderedDict\\n)R"
        value = npipes.loads((mapping + pickle.NONE) * deep + pickle.NONE + pickle.SETITEM * deep + pickle.STOP)
        del value
    """)


# ---- work ----------------------------------------------------------------


def doubled(levels, make=TUPLE2):
    """A tuple that has one other twice, which has one other twice, and so on."""
    return EMPTY_TUPLE + (DUP + make) * levels


def doubled_sets(levels):
    """The same of frozensets, which would take that long to compare."""
    step = put(0) + POP + MARK + get(0) + NONE + TUPLE2 + get(0) + pickle.NEWTRUE + TUPLE2 + FROZENSET
    return MARK + FROZENSET + step * levels


def test_a_key_is_not_hashed_for_ever():
    for payload in (
        EMPTY_DICT + doubled(60) + NONE + SETITEM,
        EMPTY_SET + MARK + doubled(60) + ADDITEMS,
        MARK + doubled(60) + FROZENSET,
        call("builtins", "set", list_of(doubled(60))),
        call("collections", "OrderedDict") + doubled(60) + NONE + SETITEM,
        EMPTY_DICT + doubled_sets(40) + NONE + SETITEM,
    ):
        refused(whole(payload), "more work")
    value = npipes.loads(whole(doubled(60)))  # as a value it is small
    assert len(value) == 2 and value[0] is value[1]


def test_one_large_number_is_not_hashed_again_and_again():
    big = number(1 << 8 * 1_000_000)
    refused(whole(big, put(0), POP, (EMPTY_DICT + get(0) + NONE + SETITEM + POP) * 100_000, NONE), "more work")
    digits = call("decimal", "Decimal", text("1" * 1_000_000))
    refused(whole(digits, put(0), POP, (EMPTY_DICT + get(0) + NONE + SETITEM + POP) * 100_000, NONE), "more work")


PRIME = 2**61 - 1  # hash() of an int is its remainder


@pytest.mark.parametrize(
    "make",
    [
        lambda numbers: {n: None for n in numbers},
        set,
        frozenset,
        lambda numbers: {(n, 1): None for n in numbers},
        lambda numbers: {float(n): None for n in numbers},
    ],
    ids=["dict", "set", "frozenset", "tuples", "floats"],
)
def test_keys_that_all_have_one_hash_are_refused(make):
    few = make([n * PRIME for n in range(1, 100)])
    assert npipes.loads(npipes.dumps(few)) == few
    keys = [n * PRIME for n in range(1, 4000)] if make([1.5]) != {1.5: None} else [2.0**n for n in range(0, 1000, 61)]
    many = npipes.dumps(make(keys))
    if len(keys) > 1000:
        refused(many, "more work")


def test_keys_that_meet_on_their_way_through_the_table_are_refused():
    """Their hashes differ, but a dict that looks for a place for one comes by all of the others."""
    bits = 15
    mask = (1 << bits) - 1
    before = (GOAL - 1) * pow(5, -1, 1 << bits) & mask
    filling = [GOAL, before, (before - 1) * pow(5, -1, 1 << bits) & mask, *random.Random(1).sample(range(1 << bits), 19_500)]
    payload = npipes.dumps(dict.fromkeys(filling + meeting_numbers(bits, set(filling))))
    refused(payload, "more work")
    assert npipes.loads(npipes.dumps(dict.fromkeys(filling))) == dict.fromkeys(filling)


def way(number, mask, steps=13):
    """The places that a dict looks at for an int, until the number itself counts no more."""
    place = number & mask
    for _ in range(steps):
        yield place
        number >>= 5
        place = (place * 5 + number + 1) & mask
    yield place


GOAL = 7


def meeting_numbers(bits, filled):
    """Numbers whose ways lead over places that are taken and end at one and the same."""
    mask = (1 << bits) - 1
    *_, origin = way(0, mask)
    tops = collections.defaultdict(list)
    for top in range(1 << bits):
        *_, end = way(top << 45, mask)
        tops[(end - origin) & mask].append(top << 45)
    lows = (n for n in range(1 << bits) if filled.issuperset(way(n, mask, 3)))
    found = []
    for low, middle in itertools.product(itertools.islice(lows, 3), range(1 << bits)):
        number = low | middle << 30
        if filled.issuperset(way(number, mask, 6)):
            *_, end = way(number, mask)
            found += (number | top for top in tops[(GOAL - end) & mask] if filled.issuperset(way(number | top, mask, 12)))
    return found


@pytest.mark.parametrize(
    "value",
    [
        {n: None for n in range(100_000)},
        {n * 1024: None for n in range(100_000)},
        {float(n): n for n in range(50_000)},
        {(n, n + 1): (n,) for n in range(50_000)},
        {-n for n in range(100_000)},
        set(range(0, 1 << 40, 1 << 22)),
        {(0, 0, "x" * 50, n) for n in range(10_000)},
        {n: {m: {k} for k, m in enumerate(range(200))} for n in range(200)},
        {2**n for n in range(600)},
        [{(n, str(n), (n, n)): n for n in range(20)} for _ in range(2000)],
    ],
    ids=range(10),
)
def test_keys_of_honest_payloads_are_few_enough(value):
    assert npipes.loads(npipes.dumps(value)) == value


def test_copies_are_of_what_is_there():
    for part, copy_it in (
        (data(b"x" * 1_000_000), lambda g: call("builtins", "bytearray", g)),
        (list_of(*[NONE] * 1_000_000), lambda g: call("builtins", "set", g)),
        (text("1" * 100_000), lambda g: call("decimal", "Decimal", g)),
        (text("1" * 100_000), lambda g: call("_codecs", "encode", g, text("latin1"))),
        (number(1 << 1_000_000), lambda g: call("builtins", "range", number(0), g, number(1))),
    ):
        refused(whole(part, put(0), POP, EMPTY_LIST, (copy_it(get(0)) + APPEND) * 1000), "copies")


def test_many_fractions_take_their_time_and_no_more():
    one = call("fractions", "Fraction", number(10**4299 + 1), number(3 * 10**4299 + 7))
    begin = time.perf_counter()
    npipes.loads(whole(list_of(*[one] * 300)))
    assert time.perf_counter() - begin < 10


def test_a_large_payload_can_be_interrupted():
    payload = whole(list_of(*[number(1) + POP] * 4_000_000))

    def read():
        while True:
            npipes.loads(payload)

    interrupted(read)


@linux_only
def test_memory_is_bounded_by_the_payload():
    """In a process that has no more than it needs: what asks for more ends with another error."""
    run_python(
        """
        import resource, struct, pickle, npipes
        from pickles import call, data, get, list_of, number, put, text, whole
        payloads = [
            whole(pickle.BYTEARRAY8, struct.pack("<Q", 1 << 33)),
            whole(pickle.BINBYTES8, struct.pack("<Q", 1 << 33)),
            whole(pickle.FRAME, struct.pack("<Q", 1 << 33)),
            whole(pickle.LONG4, struct.pack("<i", 2**31 - 1)),
            whole(pickle.NONE, put(2**31)),
            whole(pickle.NONE, put(2**28)),
            whole(call("builtins", "bytearray", number(10**10))),
            whole(call("builtins", "set", call("builtins", "range", number(0), number(10**9), number(1)))),
            whole(pickle.EMPTY_TUPLE, (pickle.DUP + pickle.TUPLE2) * 100, pickle.TUPLE1, pickle.EMPTY_DICT,
                  pickle.DUP, pickle.POP, pickle.POP, b"ccollections\\nOrderedDict\\n)R)", pickle.SETITEM),
            whole(data(b"x" * 1000000), put(0), pickle.POP, pickle.EMPTY_LIST,
                  (call("builtins", "bytearray", get(0)) + pickle.APPEND) * 10000),
        ]
        limit = resident = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit + (64 << 20),) * 2)
        for payload in payloads:
            try:
                npipes.loads(payload)
            except npipes.UnsafePayloadError:
                pass
            else:
                raise AssertionError(payload[:50])
    """.replace("import resource", f"import sys; sys.path.insert(0, {TESTS!r})\n        import resource")
    )


@pytest.mark.parametrize(
    "unit",
    [
        EMPTY_SET,
        EMPTY_DICT,
        EMPTY_LIST,
        MARK,
        NONE,
        DUP,
        TUPLE1 + POP + EMPTY_TUPLE,
        MEMOIZE,
        b"ccollections\nOrderedDict\n)R",
        b"K\1",
        b"\x8f(K\1\x90",
        b"}K\1NsN",
        b"\x8a\x09" + b"\1" * 9,
    ],
)
def test_memory_grows_with_the_payload(unit):
    import tracemalloc

    size = 100_000
    payload = NONE + unit * (size // len(unit)) + pickle.STOP
    tracemalloc.start()
    try:
        with contextlib.suppress(npipes.UnsafePayloadError):
            npipes.loads(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000 + 300 * len(payload)
