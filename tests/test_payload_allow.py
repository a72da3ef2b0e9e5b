"""Classes that loads() may make because it was told so, and what that includes."""

import collections
import dataclasses
import enum
import pickle
import uuid
from pickle import BUILD, EMPTY_TUPLE, NEWOBJ, TUPLE2

import pytest
from pickles import call, dict_of, list_of, name, number, text, tuple_of, whole

import npipes

ME = __name__


class Plain:
    def __init__(self, x=0):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and vars(other) == vars(self)


class Child(Plain):
    pass


class Outer:
    class Inner(Plain):
        pass


class Slotted:
    __slots__ = ("a", "b")

    def __eq__(self, other):
        return (self.a, self.b) == (other.a, other.b)


class Guarded:
    __slots__ = ("__dict__", "a")
    sets = []

    @property
    def watched(self):
        return None

    @watched.setter
    def watched(self, value):
        self.sets.append(value)


class Stateful:
    def __setstate__(self, state):
        self.state = "set", state

    def __getstate__(self):
        return 5


class Numbers(list):
    pass


class Table(dict):
    pass


class Bag(set):
    pass


class WithKeywords:
    def __new__(cls, *, x):
        self = super().__new__(cls)
        self.x = x
        return self

    def __getnewargs_ex__(self):
        return (), {"x": self.x}

    def __eq__(self, other):
        return self.x == other.x


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Flags(enum.Flag):
    A = 1
    B = 2


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    x: int
    y: list


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: str


class Failing:
    def __init__(self, *args):
        raise RuntimeError("it does not want to")


def slotted():
    thing = Slotted()
    thing.a, thing.b = 1, [2]
    return thing


def child_with_items():
    thing = Numbers([1, 2])
    thing.x = 5
    return thing


@pytest.mark.parametrize(
    "value",
    [
        Plain(5),
        Child([Plain()]),
        Outer.Inner(1),
        slotted(),
        child_with_items(),
        Numbers(),
        Table(a=1),
        Bag({1}),
        WithKeywords(x=3),
        Color.RED,
        Flags.A | Flags.B,
        Point(1, Point(2, 3)),
        Data(1, [2]),
        Frozen(1, "x"),
        Plain(Plain(Plain())),
        collections.Counter("abca"),
        collections.deque([1, 2], 5),
        collections.defaultdict(list, a=[1]),
        frozenset([Point(1, 2)]),
        {Color.RED: 1},
        [Plain(), {"x": Child()}],
    ],
    ids=lambda v: type(v).__name__,
)
def test_instances_of_allowed_classes_come_back(value):
    allow = [
        Plain,
        Child,
        Outer.Inner,
        Slotted,
        Numbers,
        Table,
        Bag,
        WithKeywords,
        Color,
        Flags,
        Point,
        Data,
        Frozen,
        collections.Counter,
        collections.deque,
        collections.defaultdict,
        "builtins.list",
    ]
    for protocol in range(2, 6):
        if isinstance(value, (WithKeywords, Outer.Inner)) and protocol < 4:
            continue  # are written as a functools.partial there, and as a getattr()
        got = npipes.loads(pickle.dumps(value, protocol), allow=allow)
        assert (type(got), got) == (type(value), value)
        assert getattr(got, "__dict__", None) == getattr(value, "__dict__", None)
    with pytest.raises(npipes.UnsafePayloadError, match="is not allowed"):
        npipes.loads(npipes.dumps(value))


def test_a_member_of_an_enumeration_is_that_member():
    assert npipes.loads(npipes.dumps(Color.RED), allow=[Color]) is Color.RED


def test_names_do_as_well_as_classes():
    for allow in ([f"{ME}.Plain"], [f"{ME}:Plain"], {Plain}, (n for n in [Plain]), {f"{ME}.Plain": 1}):
        assert npipes.loads(npipes.dumps(Plain(5)), allow=allow) == Plain(5)
    nested = npipes.dumps(Outer.Inner(5))
    assert npipes.loads(nested, allow=[f"{ME}:Outer.Inner"]) == Outer.Inner(5)
    with pytest.raises(npipes.UnsafePayloadError, match="not allowed"):
        npipes.loads(nested, allow=[f"{ME}.Outer.Inner"])  # class Inner of a module Outer


def test_a_name_is_imported_when_a_payload_has_it():
    npipes.loads(npipes.dumps(5), allow=["no_such_module.Thing"])
    with pytest.raises(npipes.UnsafePayloadError, match="No module named"):
        npipes.loads(whole(call("no_such_module", "Thing")), allow=["no_such_module.Thing"])
    with pytest.raises(npipes.UnsafePayloadError, match="no attribute"):
        npipes.loads(whole(call(ME, "Thing")), allow=[f"{ME}.Thing"])
    with pytest.raises(npipes.UnsafePayloadError, match="neither a class nor a function"):
        npipes.loads(whole(name(ME, "ME")), allow=[f"{ME}.ME"])


def test_a_subclass_and_a_base_are_not_included():
    with pytest.raises(npipes.UnsafePayloadError, match="Child is not allowed"):
        npipes.loads(npipes.dumps(Child()), allow=[Plain])
    with pytest.raises(npipes.UnsafePayloadError, match="Plain is not allowed"):
        npipes.loads(npipes.dumps(Plain()), allow=[Child])
    with pytest.raises(npipes.UnsafePayloadError, match="Plain is not allowed"):
        npipes.loads(npipes.dumps(Child(Plain())), allow=[Child])


def test_an_allowed_class_is_a_value_and_an_allowed_function_is_none():
    assert npipes.loads(npipes.dumps([Plain, {Plain: Child}]), allow=[Plain, Child]) == [Plain, {Plain: Child}]
    with pytest.raises(npipes.UnsafePayloadError, match="not a value"):
        npipes.loads(npipes.dumps(slotted), allow=[f"{ME}.slotted"])
    assert npipes.loads(whole(call(ME, "slotted")), allow=[f"{ME}.slotted"]) == slotted()


def test_what_the_class_raises_is_the_payloads_fault():
    error = pytest.raises(npipes.UnsafePayloadError, npipes.loads, whole(call(ME, "Failing")), allow=[Failing]).value
    assert "RuntimeError: it does not want to" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


class Speechless(Exception):
    def __str__(self):
        raise LookupError("no words")


class Mute:
    def __init__(self):
        raise Speechless


def test_an_exception_without_a_text_is_the_payloads_fault_too():
    error = pytest.raises(npipes.UnsafePayloadError, npipes.loads, whole(call(ME, "Mute")), allow=[Mute]).value
    assert str(error).startswith("Speechless, at byte ")
    assert isinstance(error.__cause__, Speechless)


def a_uuid():
    return uuid.UUID(int=5)


def test_the_state_of_one_object_is_not_that_of_another():
    """One UUID has got none, and another, which had a number, has got one."""
    none = name("uuid", "UUID") + EMPTY_TUPLE + NEWOBJ
    other = call(ME, "a_uuid") + dict_of(text("int"), number(7)) + BUILD
    with pytest.raises(npipes.UnsafePayloadError, match="has not got its state"):
        npipes.loads(whole(none, other, TUPLE2), allow=[f"{ME}.a_uuid"])


@pytest.mark.parametrize(
    ("allow", "error"),
    [
        ("package.Class", TypeError),
        (Plain, TypeError),
        (5, TypeError),
        (None, TypeError),
        ([5], TypeError),
        ([b"a.b"], TypeError),
        ([slotted], TypeError),
        (["Plain"], ValueError),
        ([""], ValueError),
        (["."], ValueError),
        (["a."], ValueError),
        (["a b.c"], ValueError),
        ([".c"], ValueError),
        (["a:"], ValueError),
        (["a..b"], ValueError),
        (["a.<locals>.b"], ValueError),
    ],
)
def test_what_can_not_be_allowed_is_named(allow, error, pipe_name):
    with pytest.raises(error, match="allow"):
        npipes.loads(npipes.dumps(1), allow=allow)
    with pytest.raises(error, match="allow"):
        npipes.PropertyBag(allow=allow)
    with pytest.raises(error, match="allow"):
        npipes.Pipe(allow=allow)
    with pytest.raises(error, match="allow"):
        npipes.Listener(pipe_name, allow=allow)
    with pytest.raises(error, match="allow"):
        npipes.connect(pipe_name, timeout=0, allow=allow)


@pytest.mark.parametrize("trusted", [1, "yes", None, b""])
def test_trusted_is_true_or_false(trusted, pipe_name):
    for call_it in (
        lambda: npipes.loads(npipes.dumps(1), trusted=trusted),
        lambda: npipes.PropertyBag(trusted=trusted),
        lambda: npipes.Pipe(trusted=trusted),
        lambda: npipes.Listener(pipe_name, trusted=trusted),
        lambda: npipes.connect(pipe_name, timeout=0, trusted=trusted),
    ):
        with pytest.raises(TypeError, match="trusted must be True or False"):
            call_it()


def test_trusted_lifts_all_of_it():
    data = npipes.dumps([Plain(5), slotted, collections.deque([1])])
    assert npipes.loads(data, trusted=True) == [Plain(5), slotted, collections.deque([1])]
    assert npipes.loads(b"I5\n.", trusted=True) == 5  # protocol 0
    with pytest.raises(pickle.UnpicklingError):
        npipes.loads(b"\xff", trusted=True)


# ---- states --------------------------------------------------------------


def test_a_state_is_set_once_and_to_what_is_new():
    plain, state = name(ME, "Plain") + pickle.EMPTY_TUPLE + pickle.NEWOBJ, dict_of(text("x"), number(1))
    assert npipes.loads(whole(plain, state, pickle.BUILD), allow=[Plain]) == Plain(1)
    with pytest.raises(npipes.UnsafePayloadError, match="newly made"):
        npipes.loads(whole(plain, state, pickle.BUILD, state, pickle.BUILD), allow=[Plain])


def test_a_member_of_an_enumeration_gets_no_state():
    red, state = call(ME, "Color", number(1)), dict_of(text("_value_"), number(99), text("_name_"), text("BLUE"))
    with pytest.raises(npipes.UnsafePayloadError, match="newly made"):
        npipes.loads(whole(red, state, pickle.BUILD), allow=[Color])
    with pytest.raises(npipes.UnsafePayloadError, match="newly made"):
        npipes.loads(whole(name(ME, "Color"), tuple_of(number(1)), pickle.NEWOBJ, state, pickle.BUILD), allow=[Color])
    assert (Color.RED.value, Color.RED.name) == (1, "RED")


@pytest.mark.parametrize(
    "state",
    [
        number(5),
        text("x"),
        list_of(number(1)),
        tuple_of(number(1), number(2)),
        tuple_of(pickle.NONE, list_of(number(1))),
        dict_of(number(1), number(1)),
        tuple_of(pickle.NONE, dict_of(text("watched"), number(1))),
        tuple_of(pickle.NONE, dict_of(text("__class__"), name(ME, "Plain"))),
        tuple_of(pickle.NONE, dict_of(text("no"), number(1))),
        tuple_of(pickle.NONE, dict_of(text("__dict__"), pickle.EMPTY_DICT)),
        tuple_of(pickle.NONE, dict_of(text("sets"), number(1))),
    ],
)
def test_a_state_sets_attributes_and_slots_and_nothing_else(state):
    guarded = name(ME, "Guarded") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    with pytest.raises(npipes.UnsafePayloadError):
        npipes.loads(whole(guarded, state, pickle.BUILD), allow=[Guarded, Plain])
    assert Guarded.sets == []


def test_a_method_is_not_shadowed_for_what_the_machine_calls():
    """__setstate__, append and the like are the class's, whatever attributes an instance has."""
    state = dict_of(text("__setstate__"), name(ME, "Failing"), text("append"), name(ME, "Failing"))
    numbers = name(ME, "Numbers") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    got = npipes.loads(whole(numbers, number(1), pickle.APPEND, state, pickle.BUILD), allow=[Numbers, Failing])
    assert got == [1]


def test_a_class_with_its_own_setstate_gets_any_state():
    assert npipes.loads(npipes.dumps(Stateful()), allow=[Stateful]).state == ("set", 5)


def test_subclasses_of_lists_take_items_until_they_have_their_state():
    numbers, state = name(ME, "Numbers") + pickle.EMPTY_TUPLE + pickle.NEWOBJ, dict_of(text("x"), number(1)) + pickle.BUILD
    with pytest.raises(npipes.UnsafePayloadError, match="newly made"):
        npipes.loads(whole(numbers, state, number(1), pickle.APPEND), allow=[Numbers])
    plain = name(ME, "Plain") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    with pytest.raises(npipes.UnsafePayloadError):
        npipes.loads(whole(plain, number(1), pickle.APPEND), allow=[Plain])
    with pytest.raises(npipes.UnsafePayloadError):
        npipes.loads(whole(plain, number(1), number(1), pickle.SETITEM), allow=[Plain])
