"""The known ways around readers that restrict what a pickle may name."""

import copyreg
import pickle
import struct
import sys
import time
from pickle import (
    ADDITEMS,
    APPEND,
    APPENDS,
    BINPUT,
    BUILD,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    FROZENSET,
    INST,
    MARK,
    MEMOIZE,
    NEWOBJ,
    NEWOBJ_EX,
    NONE,
    OBJ,
    POP,
    REDUCE,
    SETITEM,
    SETITEMS,
    STACK_GLOBAL,
    TUPLE1,
    TUPLE2,
)

import pickles
import pytest
from pickles import call, data, dict_of, get, list_of, name, number, put, text, tuple_of, whole

import npipes

fired = []


def fire(*args, **kwargs):
    fired.append(args)
    return fire


class Loaded:
    """Runs something however it is made, filled or given a state."""

    def __new__(cls, *args):
        fire("new")
        return super().__new__(cls)

    def __init__(self, *args):
        fire("init")

    def __setstate__(self, state):
        fire("setstate")

    def __setitem__(self, key, value):
        fire("setitem")

    def append(self, item):
        fire("append")

    extend = add = __call__ = append


class Harmless:
    kind = "harmless"


ME = __name__


def refused(payload, match=".", **options):
    """loads() refuses it, at once, and nothing has run."""
    fired.clear()
    pickles.refused(payload, match, **options)
    assert fired == []


# ---- names ---------------------------------------------------------------

GADGETS = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("builtins", "open"),
    ("builtins", "print"),
    ("builtins", "type"),
    ("builtins", "object"),
    ("builtins", "list"),
    ("builtins", "map"),
    ("builtins", "setattr"),
    ("builtins", "globals"),
    ("__builtin__", "eval"),
    ("importlib", "import_module"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("functools", "partial"),
    ("functools", "reduce"),
    ("copyreg", "_reconstructor"),
    ("copyreg", "__newobj__"),
    ("copyreg", "add_extension"),
    ("copy_reg", "_reconstructor"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("marshal", "loads"),
    ("code", "interact"),
    ("pty", "spawn"),
    ("pydoc", "locate"),
    ("npipes", "loads"),
    ("npipes.payload", "Reading"),
    ("npipes.client", "_rebuild"),
    ("npipes.plain", "find"),
    ("npipes._npipes", "_adopt"),
    ("multiprocessing.reduction", "_rebuild_socket"),
    ("collections", "deque"),
    ("datetime", "tzinfo"),
    ("decimal", "Context"),
    ("uuid", "SafeUUID"),
    (ME, "fire"),
    (ME, "Loaded"),
    ("", ""),
    ("builtins", ""),
    ("", "eval"),
    (ME, "no_such_thing"),
    ("no_such_module", "x"),
]


@pytest.mark.parametrize(("module", "attribute"), GADGETS)
def test_a_name_that_is_not_allowed_ends_it(module, attribute):
    if module and attribute:
        refused(b"c%b\n%b\n." % (module.encode(), attribute.encode()), "is not allowed")
    for payload in (
        whole(name(module, attribute)),
        whole(call(module, attribute, text("x"))),
        whole(name(module, attribute), EMPTY_TUPLE, NEWOBJ),
        whole(name(module, attribute), EMPTY_TUPLE, EMPTY_DICT, NEWOBJ_EX),
        whole(name(module, attribute), POP, NONE),
    ):
        refused(payload, "is not allowed")


@pytest.mark.parametrize("module", ["builtins", "datetime", "decimal", "uuid", "zoneinfo", "collections", "npipes", "_codecs"])
def test_a_dotted_name_is_a_name_like_others(module):
    """'ZoneInfo.no_cache.__func__.__globals__' and so on: nothing is looked up piece by piece."""
    for attribute in (
        "date.today",
        "Decimal.from_float",
        "UUID.__init__.__globals__",
        "set.__class__",
        "ZoneInfo.__subclasses__",
        "sys",
        "sys.modules",
        "os.system",
        "abc.ABCMeta",
        "PropertyBag.contents",
        "getattr.__self__.eval",
        "encode.__call__",
        "__builtins__",
        "__loader__.load_module",
        ".",
        "..",
        "date.",
        ".date",
    ):
        refused(whole(name(module, attribute)), "is not allowed")


def test_a_nested_class_is_not_allowed_with_its_outer_one():
    refused(whole(name(ME, "Harmless.kind")), "is not allowed", allow=[Harmless])
    refused(whole(name(ME, "Harmless.__init__")), "is not allowed", allow=[Harmless])
    refused(whole(name(ME, "Harmless.__class__.__subclasses__")), "is not allowed", allow=[Harmless])


def test_a_subclass_is_not_allowed_with_its_base():
    refused(whole(name(ME, "Loaded"), EMPTY_TUPLE, NEWOBJ), "is not allowed", allow=[object, f"{ME}.Harmless"])


def test_naming_imports_nothing():
    module = "this"  # prints when it is imported
    assert module not in sys.modules
    refused(whole(call(module, "x")), "is not allowed")
    assert module not in sys.modules


def test_names_that_are_no_text():
    for part in (NONE, data(b"os"), number(5), EMPTY_LIST, EMPTY_TUPLE, name("datetime", "date")):
        refused(whole(part, text("system"), STACK_GLOBAL), "not text")
        refused(whole(text("os"), part, STACK_GLOBAL), "not text")
    refused(b"cos\nsystem.", "has no end")
    refused(b"cos", "has no end")
    refused(b"c\xff\n\xff\n.")


def test_getattr_is_for_zones_alone():
    date, zone = name("datetime", "date"), name("zoneinfo", "ZoneInfo")
    for thing, attribute in (
        (date, "today"),
        (zone, "no_cache"),
        (zone, "__init_subclass__"),
        (zone, "_unpickle.__self__"),
        (text("x"), "join"),
        (name("uuid", "UUID"), "_unpickle"),
        (NONE, "_unpickle"),
    ):
        refused(whole(call("builtins", "getattr", thing, text(attribute))), "attribute")
    refused(whole(call("builtins", "getattr", zone, text("_unpickle"), NONE)))
    refused(whole(name("builtins", "getattr")), "not a value")
    unpickle = call("builtins", "getattr", zone, text("_unpickle"))
    refused(whole(unpickle), "not a value")
    refused(whole(unpickle, tuple_of(text("../../etc/passwd"), number(1)), REDUCE))


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../UTC",
        "Europe/../UTC",
        "UTC\0",
        "a.b/c",
        "Europe\\Berlin",
        "C:UTC",
        "~root",
        "x" * 40,
        "a/b/c/d/e",
        "Ünix",
        "America",
        "zone.tab",
        "No/Such",
    ],
)
def test_a_zone_is_none_but_a_zone(key):
    unpickle = call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle"))
    refused(whole(unpickle, tuple_of(text(key), number(1)), REDUCE))


# ---- calling -------------------------------------------------------------


def test_only_names_are_called():
    for thing in (NONE, text("os.system"), number(1), EMPTY_LIST, EMPTY_DICT, call("datetime", "timedelta", *[number(1)] * 3)):
        refused(whole(thing, EMPTY_TUPLE, REDUCE), "not a name")
        refused(whole(thing, EMPTY_TUPLE, NEWOBJ), "not a name")
        refused(whole(thing, EMPTY_TUPLE, EMPTY_DICT, NEWOBJ_EX), "not a name")
    # what an allowed class made is not called either, nor a class that came out of a value
    made = name(ME, "Harmless") + EMPTY_TUPLE + NEWOBJ
    refused(whole(made, EMPTY_TUPLE, REDUCE), "not a name", allow=[Harmless])


def test_arguments_are_a_tuple():
    date = name("datetime", "date")
    for args in (NONE, EMPTY_LIST, EMPTY_DICT, text("abcd"), date, name("builtins", "set")):
        refused(whole(date, args, REDUCE), "not a tuple")
        refused(whole(date, args, NEWOBJ), "not a tuple")
    harmless = name(ME, "Harmless")
    refused(whole(harmless, EMPTY_TUPLE, EMPTY_LIST, NEWOBJ_EX), "not a dict", allow=[Harmless])
    refused(whole(harmless, EMPTY_TUPLE, dict_of(number(1), number(1)), NEWOBJ_EX), allow=[Harmless])


def test_inst_and_obj_are_not_there():
    refused(b"(S'x'\nios\nsystem\n.", "opcode 0x53")
    refused(MARK + INST + b"os\nsystem\n.", "opcode 0x69")
    refused(MARK + INST + b"datetime\ndate\n.", "opcode 0x69")
    refused(whole(MARK, name("datetime", "date"), data(b"\7\344\1\1"), OBJ), "opcode 0x6f")


def test_extension_codes_are_not_there():
    copyreg.add_extension(ME, "fire", 240)
    try:
        for code in (pickle.EXT1 + b"\xf0", pickle.EXT2 + b"\xf0\0", pickle.EXT4 + b"\xf0\0\0\0"):
            refused(whole(code, EMPTY_TUPLE, REDUCE), "opcode 0x8[234]")
    finally:
        copyreg.remove_extension(ME, "fire", 240)


def test_persistent_ids_are_not_there():
    refused(whole(b"P5\n"), "opcode 0x50")
    refused(whole(text("5"), pickle.BINPERSID), "opcode 0x51")


def test_every_opcode_that_is_not_there_says_so():
    there = (
        b"\x80\x95N\x88\x89KMJ\x8a\x8bG\x8cX\x8dUTCB\x8e\x96\x97\x98)\x85\x86\x87t]ae}su\x8f\x90\x91(012\x94qrhjc\x93R\x81\x92b."
    )
    for code in set(range(256)) - set(there):
        refused(bytes([code]) + b".", f"opcode 0x{code:x}")


# ---- states --------------------------------------------------------------


def test_a_class_gets_no_state():
    """BUILD on the class itself would change it for the whole process."""
    for state in (dict_of(text("kind"), text("bad")), tuple_of(NONE, dict_of(text("kind"), text("bad")))):
        refused(whole(name(ME, "Harmless"), state, BUILD), "newly made", allow=[Harmless])
        refused(whole(list_of(name(ME, "Harmless")), POP, name(ME, "Harmless"), state, BUILD), "newly made", allow=[Harmless])
        refused(whole(name("datetime", "date"), state, BUILD), "newly made")
        refused(whole(name("builtins", "getattr"), state, BUILD), "newly made")
    assert Harmless.kind == "harmless" and "bad" not in vars(Harmless)


def test_plain_values_get_no_state():
    state = dict_of(text("x"), number(1))
    for thing in (
        NONE,
        EMPTY_LIST,
        EMPTY_DICT,
        EMPTY_SET,
        EMPTY_TUPLE,
        text("x"),
        number(1),
        MARK + FROZENSET,
        call("datetime", "date", data(b"\7\344\1\1")),
        call("builtins", "set", EMPTY_LIST),
        call("builtins", "bytearray"),
        call("decimal", "Decimal", text("1")),
        call("fractions", "Fraction", text("1")),
        call("collections", "OrderedDict") + state + BUILD,  # it has no state, though it can be filled
        call("npipes", "PropertyBag") + tuple_of(NONE, dict_of(text("_values"), number(1))) + BUILD,
    ):
        refused(whole(thing, state, BUILD))


@pytest.mark.parametrize(
    "state",
    [
        NONE,
        EMPTY_LIST,
        EMPTY_DICT,
        dict_of(text("int"), text("x")),
        dict_of(text("int"), number(-1)),
        dict_of(text("int"), number(1 << 128)),
        dict_of(text("int"), number(1), text("hex"), text("x")),
        dict_of(text("int"), number(1), text("is_safe"), number(7)),
        dict_of(text("int"), number(1), number(1), number(1)),
        dict_of(text("int"), number(1), text("is_safe"), text("x")),
        tuple_of(NONE, dict_of(text("int"), number(1))),
    ],
)
def test_a_uuid_is_a_uuid(state):
    refused(whole(name("uuid", "UUID"), EMPTY_TUPLE, NEWOBJ, state, BUILD))


def test_a_uuid_without_a_number_is_none():
    uuid = name("uuid", "UUID") + EMPTY_TUPLE + NEWOBJ
    refused(whole(uuid), "state")
    refused(whole(uuid, POP, NONE), "state")
    refused(whole(EMPTY_DICT, uuid, NONE, SETITEM))
    refused(whole(name("uuid", "UUID"), tuple_of(text("0" * 32)), NEWOBJ))
    refused(whole(call("uuid", "UUID", text("0" * 32))))
    state = dict_of(text("int"), number(5))
    refused(whole(uuid, state, BUILD, state, BUILD), "newly made")
    refused(whole(name("uuid", "UUID"), EMPTY_TUPLE, EMPTY_DICT, NEWOBJ_EX))


# ---- hostile arguments ---------------------------------------------------


@pytest.mark.parametrize(
    ("module", "attribute", "args"),
    [
        ("builtins", "bytearray", [number(10**12)]),
        ("builtins", "bytearray", [list_of(number(1))]),
        ("builtins", "bytearray", [text("x"), text("rot13")]),
        ("builtins", "set", [number(5)]),
        ("builtins", "set", [text("abc")]),
        ("builtins", "set", [call("builtins", "range", number(0), number(10**12), number(1))]),
        ("builtins", "frozenset", [call("builtins", "range", number(0), number(10**12), number(1))]),
        ("builtins", "set", []),
        ("builtins", "range", [number(1), number(5), number(0)]),
        ("builtins", "range", [number(1), number(5)]),
        ("builtins", "range", [number(1), text("5"), number(1)]),
        ("builtins", "slice", [EMPTY_LIST, NONE, NONE]),
        ("builtins", "slice", [NONE]),
        ("builtins", "complex", [text("1" * 100)]),
        ("builtins", "complex", [number(1), number(10**400)]),
        ("_codecs", "encode", [text("x"), text("rot13")]),
        ("_codecs", "encode", [text("x"), text("idna")]),
        ("_codecs", "encode", [text("€"), text("latin1")]),
        ("_codecs", "encode", [text("x")]),
        ("datetime", "date", [data(b"\0\0\1\1")]),
        ("datetime", "date", [data(b"\xff\xff\1\1")]),
        ("datetime", "date", [data(b"\7\344\2\36")]),
        ("datetime", "date", [data(b"\7\344\1\0")]),
        ("datetime", "date", [data(b"\7\344\1\xff")]),
        ("datetime", "date", [data(b"\7\344\1")]),
        ("datetime", "date", [text("\7\0\1\1")]),
        ("datetime", "date", [number(1), number(1), number(1)]),
        ("datetime", "date", [data(b"\7\344\1\1"), NONE]),
        ("datetime", "time", [data(b"\x18\0\0\0\0\0")]),
        ("datetime", "time", [data(b"\1\74\0\0\0\0")]),
        ("datetime", "time", [data(b"\1\1\1\xff\xff\xff")]),
        ("datetime", "time", [data(b"\1\1\1\1\1\1"), text("UTC")]),
        ("datetime", "datetime", [data(b"\7\344\r\1\1\1\1\1\1\1")]),
        ("datetime", "datetime", [data(b"\7\344\1\1\x18\1\1\1\1\1")]),
        ("datetime", "datetime", [data(b"\7\344\1\1\1\1\1\1\1\1"), number(1)]),
        ("datetime", "datetime", [data(b"\7\344\1\1\1\1\1\1\1\1"), NONE]),
        ("datetime", "datetime", [data(b"\7\344\1\1\1\1\1\1\1\1"), NONE, NONE]),
        ("datetime", "timedelta", [number(10**30), number(0), number(0)]),
        ("datetime", "timedelta", [number(1)]),
        ("datetime", "timedelta", [pickle.BINFLOAT + struct.pack(">d", float("nan")), number(0), number(0)]),
        ("datetime", "timezone", [number(1)]),
        ("datetime", "timezone", [call("datetime", "timedelta", number(2), number(0), number(0))]),
        ("datetime", "timezone", [call("datetime", "timedelta", number(0), number(0), number(0)), number(1)]),
        ("decimal", "Decimal", [text("x")]),
        ("decimal", "Decimal", [text("1e" + "9" * 30)]),
        ("decimal", "Decimal", [number(1)]),
        ("decimal", "Decimal", [tuple_of(number(0), tuple_of(number(1)), number(10**18))]),
        ("decimal", "Decimal", [text("1"), NONE]),
        ("fractions", "Fraction", [text("1e1000000000")]),
        ("fractions", "Fraction", [text("1/0")]),
        ("fractions", "Fraction", [number(1), number(0)]),
        ("fractions", "Fraction", [text("1" * 4301)]),
        ("fractions", "Fraction", [number(10**5000), number(3)]),
        ("fractions", "Fraction", [text("1.5")]),
        ("fractions", "Fraction", [call("decimal", "Decimal", text("1e999999999"))]),
        ("collections", "OrderedDict", [EMPTY_LIST]),
        ("npipes", "PropertyBag", [data(b"")]),
    ],
)
def test_what_pickle_would_not_write_is_not_read(module, attribute, args):
    refused(whole(call(module, attribute, *args)))


def test_a_decimal_with_a_huge_exponent_costs_nothing():
    from decimal import Decimal

    payload = whole(dict_of(call("decimal", "Decimal", text("1e999999999999")), NONE))
    begin = time.perf_counter()
    assert npipes.loads(payload) == {Decimal("1e999999999999"): None}
    assert time.perf_counter() - begin < 10


# ---- what is somebody else's ---------------------------------------------

registry = {"a": 1}
shelf = [1]
members = {1}


def the_registry():
    return registry


def the_shelf():
    return shelf


def the_members():
    return members


def test_what_an_allowed_function_returns_is_changed_only_if_it_is_new():
    allow = [f"{ME}.the_registry", f"{ME}.the_shelf", f"{ME}.the_members"]
    assert npipes.loads(whole(call(ME, "the_registry")), allow=allow) is registry
    for parts in (
        (call(ME, "the_registry"), text("b"), NONE, SETITEM),
        (call(ME, "the_registry"), MARK, text("b"), NONE, SETITEMS),
        (call(ME, "the_registry"), put(0), POP, get(0), text("b"), NONE, SETITEM),
        (call(ME, "the_registry"), DUP, text("b"), NONE, SETITEM),
        (call(ME, "the_shelf"), NONE, APPEND),
        (call(ME, "the_shelf"), MARK, NONE, APPENDS),
        (call(ME, "the_members"), MARK, NONE, ADDITEMS),
        (call(ME, "the_members"), dict_of(text("x"), NONE), BUILD),
    ):
        refused(whole(*parts), "newly made", allow=allow)
    assert (registry, shelf, members) == ({"a": 1}, [1], {1})


def test_a_buffer_out_of_band_is_not_filled():
    shared = [1]
    refused(whole(pickle.NEXT_BUFFER, NONE, APPEND), "newly made", buffers=[shared])
    assert shared == [1]
    refused(whole(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), "no buffer", buffers=[shared])
    refused(whole(pickle.NEXT_BUFFER), "buffer")
    refused(whole(pickle.NEXT_BUFFER), "buffer", buffers=[])
    refused(whole(text("x"), pickle.READONLY_BUFFER), "no buffer")


def test_containers_take_only_what_theirs_opcodes_give():
    for thing in (NONE, EMPTY_TUPLE, EMPTY_DICT, EMPTY_SET, text("x"), call("builtins", "bytearray")):
        refused(whole(thing, number(1), APPEND), "newly made")
        refused(whole(thing, MARK, number(1), APPENDS), "newly made")
    for thing in (NONE, EMPTY_TUPLE, EMPTY_LIST, EMPTY_SET, text("x"), call("builtins", "bytearray")):
        refused(whole(thing, number(0), number(1), SETITEM), "newly made")
    for thing in (NONE, EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, MARK + FROZENSET):
        refused(whole(thing, MARK, number(1), ADDITEMS), "newly made")
    refused(whole(call("collections", "OrderedDict"), NONE, APPEND))
    refused(whole(call("npipes", "PropertyBag"), NONE, APPEND))
    refused(whole(call("npipes", "PropertyBag"), MARK, NONE, ADDITEMS))
    refused(whole(call("npipes", "PropertyBag"), number(1), NONE, SETITEM), "must be a str")
    refused(whole(EMPTY_DICT, EMPTY_LIST, NONE, SETITEM), "unhashable")
    refused(whole(EMPTY_SET, MARK, EMPTY_LIST, ADDITEMS), "unhashable")
    refused(whole(EMPTY_DICT, MARK, number(1), SETITEMS), "no value")


def test_a_name_is_no_value():
    getattr_ = name("builtins", "getattr")
    for payload in (
        getattr_,
        list_of(getattr_),
        tuple_of(getattr_),
        getattr_ + TUPLE1,
        dict_of(text("x"), getattr_),
        dict_of(getattr_, NONE),
        EMPTY_SET + MARK + getattr_ + ADDITEMS,
        MARK + getattr_ + FROZENSET,
        EMPTY_LIST + getattr_ + APPEND,
        EMPTY_DICT + NONE + getattr_ + SETITEM,
        getattr_ + DUP + TUPLE2,
    ):
        refused(whole(payload), "not a value")


# ---- the stack and the memo ----------------------------------------------


@pytest.mark.parametrize("code", [bytes([c]) for c in b"RbsaeutA0125\x81\x85\x86\x87\x90\x91\x92\x93\x94\x98qr"])
def test_nothing_is_taken_from_an_empty_stack(code):
    refused(whole(code))
    refused(whole(code, b"\0" * 8))
    refused(whole(NONE, NONE, NONE, MARK, MARK, code))


def test_nothing_is_taken_from_below_a_mark():
    refused(whole(EMPTY_LIST, MARK, NONE, APPEND), "not enough")
    refused(whole(NONE, MARK, TUPLE1), "not enough")
    refused(whole(NONE, MARK, DUP), "not enough")
    refused(whole(NONE, MARK, MEMOIZE), "not enough")
    assert npipes.loads(whole(NONE, MARK, POP)) is None


def test_the_end_has_one_value():
    refused(whole(), "0 values")
    refused(whole(NONE, NONE), "2 values")
    refused(whole(NONE, MARK), "instead of one")
    refused(whole(NONE) + b"x", "1 bytes follow")
    refused(whole(NONE) + whole(NONE), "bytes follow")
    refused(b"", "no end")
    refused(b"\x80\5N", "no end")


def test_the_memo_has_what_was_put_there():
    for index in (0, 5, 2**31, 2**32 - 1):
        refused(whole(get(index)), "no value with the number")
    refused(whole(NONE, put(2), get(1)), "no value with the number 1")
    refused(whole(NONE, BINPUT, b"\x01", get(0)))
    for index in (1000, 2**20, 2**31 - 1, 2**31, 2**32 - 1):
        refused(whole(NONE, put(index)), "can't be the number")
    assert npipes.loads(whole(NONE, put(3), POP, number(5), put(3), POP, get(3))) == 5


def test_a_value_that_is_in_the_memo_twice_is_one():
    assert npipes.loads(whole(EMPTY_LIST, MEMOIZE, MEMOIZE, get(0), get(1), pickle.TUPLE3)) == ([],) * 3
    inner = npipes.loads(whole(EMPTY_LIST, MEMOIZE, get(0), APPEND))
    assert inner[0] is inner


def test_a_protocol_is_known():
    refused(b"\x80\6N.", "protocol 6")
    refused(b"\x80\xffN.", "protocol 255")
    refused(whole(b"\x80\5", NONE), "beginning")
    refused(b"\x80", "wants 1 more")


# ---- lengths -------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_length_is_believed_as_far_as_there_are_bytes(size):
    for code in (pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.BINUNICODE8):
        refused(whole(code, struct.pack("<Q", size)), "more bytes")
        refused(whole(code, struct.pack("<Q", size), b"x" * (size - 2 if size < 10**6 else 9)), "more bytes|no end")
    refused(whole(pickle.FRAME, struct.pack("<Q", size), b""), "announced")
    if size < 2**32:
        for code in (pickle.BINBYTES, pickle.BINUNICODE, pickle.LONG4, pickle.BINSTRING):
            refused(whole(code, struct.pack("<I", size)), "more bytes")


def test_every_cut_off_payload_is_refused():
    value = [
        1,
        -5,
        70000,
        2**80,
        1.5,
        "x",
        "ü" * 300,
        b"y" * 300,
        bytearray(5),
        (1, 2, 3, 4),
        {1: {2}},
        frozenset([3]),
        None,
        True,
    ]
    for protocol in range(2, 6):
        whole_one = pickle.dumps(value, protocol)
        assert npipes.loads(whole_one) == value
        for size in range(len(whole_one)):
            refused(whole_one[:size])
