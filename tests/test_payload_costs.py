"""What a payload may cost: depth, time and memory are bounded by its bytes."""

import collections
import contextlib
import itertools
import pickle
import random
import threading
import time
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
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
ZONES = sorted(key for key in zoneinfo.available_timezones() if key.startswith("Europe/"))
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
        call("npipes", "PropertyBag") + doubled(60) + NONE + SETITEM,
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


def decimal(digits):
    return call("decimal", "Decimal", text(digits))


def again(key, times):
    """A key that is set again and again, to be compared each time with an equal one that is another object."""
    return key + put(9) + POP + (b"h\x09" + NONE + SETITEM) * times


HUGE = 1 << 8 * 200_000  # takes half a minute to become a Decimal
MEETING = MARK + b"".join(number(n * PRIME) for n in range(1, 30)) + FROZENSET
FRACTION = call("fractions", "Fraction", number(3**8000 * 7 + (PRIME << 12000)), number(3**8000))


@pytest.mark.parametrize(
    "keys",
    [
        decimal(str(HUGE % PRIME)) + NONE + SETITEM + number(HUGE) + NONE + SETITEM,
        decimal("1" + "0" * 200_000) + NONE + SETITEM + again(decimal("1e200000"), 200_000),
        decimal("9" * 200_000) + NONE + SETITEM + again(FRACTION, 1000),
        number(1 << 8000) + NONE + SETITEM + again(decimal(str((1 << 8000) % PRIME)), 20_000),
        decimal(str((1 << 8000) % PRIME)) + NONE + SETITEM + again(number(1 << 8000), 20_000),
        text("x" * 100_000) + NONE + SETITEM + again(text("x" * 100_000), 100_000),
        data(b"x" * 100_000) + NONE + SETITEM + again(data(b"x" * 100_000), 100_000),
        MEETING + NONE + SETITEM + again(MEETING, 20_000),
        (text("x" * 100_000) + TUPLE1 + NONE + SETITEM) + again(text("x" * 100_000) + TUPLE1, 100_000),
    ],
    ids=["a huge number", "a long decimal", "a fraction", "a decimal", "a number", "text", "bytes", "sets", "tuples"],
)
def test_keys_that_are_slow_to_compare_are_refused(keys):
    """They have one hash, and would take minutes."""
    refused(whole(EMPTY_DICT, keys), "more work")
    if keys.startswith(text("x")):
        refused(whole(call("npipes", "PropertyBag"), keys), "more work")
    else:
        refused(whole(call("collections", "OrderedDict"), keys), "more work")


def test_large_keys_of_honest_payloads_are_few_enough():
    modulus = 3**2585  # 4097 bits
    keys = [{modulus + n: n, n: "x" * 300, "y" * 100_000: n, -1: 0, -2: 0} for n in range(300)]
    keys += [{uuid.UUID(int=n): {uuid.UUID(int=m): m for m in range(3)} for n in range(5000)}]
    keys += [{Fraction(modulus, modulus + 1): 1}, {Decimal(10**4000): 1}, {1 << 8 * 2000: 1}]
    keys += [{("x" * 50_000, n, *range(50)): n for n in range(10)}]
    assert npipes.loads(npipes.dumps(keys)) == keys


def test_a_buffer_is_no_key():
    """Its bytes are hashed anew for each view of it, and compared one by one."""
    payload = npipes.dumps({"key": pickle.PickleBuffer(b"x")}, lambda buffer: False)
    assert npipes.loads(payload, [b"x"]) == {"key": b"x"}
    for key in (
        data(b"x") + pickle.READONLY_BUFFER,
        pickle.NEXT_BUFFER,
        pickle.NEXT_BUFFER + pickle.READONLY_BUFFER,
        data(b"x") + pickle.READONLY_BUFFER + TUPLE1 + TUPLE1,
        MARK + NONE + data(b"x") + pickle.READONLY_BUFFER + TUPLE2 + FROZENSET,
    ):
        refused(whole(EMPTY_DICT, key, NONE, SETITEM), "a buffer is no key", buffers=[memoryview(b"x")])
        refused(whole(EMPTY_SET, MARK, key, ADDITEMS), "a buffer is no key", buffers=[memoryview(b"x")])


def test_a_range_of_huge_numbers_is_refused():
    """How many steps it has is counted when it is made, by a division that would take minutes."""
    refused(whole(call("builtins", "range", number(0), number(HUGE * HUGE), number(HUGE + 1))), "at most 4300 digits")
    largest = range(-(10**4299), 10**4299, 3)
    assert npipes.loads(npipes.dumps(largest)) == largest


@pytest.mark.skipif(len(ZONES) < 10, reason="this machine has no time zones")
def test_a_zone_is_read_from_its_file_once():
    """However often a payload names it, and forgets it again."""
    run_python(f"""
        import pickle, sys; sys.path.insert(0, {TESTS!r})
        import zoneinfo, npipes
        from pickles import call, name, number, put, text, whole

        keys = {ZONES[:20]}
        opened = []
        sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
        unpickle = call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle")) + put(0) + b"0"
        args = b"".join(text(key) + number(1) + b"\\x86" + put(i + 1) + b"0" for i, key in enumerate(keys))
        each = b"".join(b"h\\0h" + bytes([i + 1]) + b"R0" for i in range(len(keys)))
        for times in (1, 2):  # what the user has forgotten is read again
            npipes.loads(whole(unpickle, args, each * 10, b"N"))
            assert [sum(key in file for file in opened) for key in keys] == [times] * len(keys), opened
            zoneinfo.ZoneInfo.clear_cache()
    """)


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
        (number(1 << 14_000), lambda g: call("builtins", "range", number(0), g, number(1))),
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
