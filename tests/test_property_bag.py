"""PropertyBag: a mapping that goes as bytes."""

import collections
import copy
import datetime
import pickle
import tracemalloc

import plain_values
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npipes
from npipes import PropertyBag


class Custom:
    def __eq__(self, other):
        return type(other) is Custom


class Comparison:
    """Compares as arrays do: to something that is neither true nor false."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise ValueError("the truth of several values")


@pytest.fixture
def bag():
    bag = PropertyBag()
    bag.write_property("Name", "npipes")
    bag.write_property("Count", 5)
    return bag


def test_properties_are_read_as_they_were_written(bag):
    assert bag.read_property("Name") == "npipes" and bag.read_property("Count", 7) == 5
    assert bag.read_property("Missing") is None and bag.read_property("Missing", 7) == 7


def test_what_equals_its_default_is_not_stored(bag):
    bag.write_property("Width", 100, 100)
    bag.write_property("Height", 100.0, default=100)
    bag.write_property("Nothing", None)
    assert set(bag) == {"Name", "Count"}
    bag.write_property("Width", 200, 100)
    assert bag.read_property("Width", 100) == 200
    bag.write_property("Width", 100, 100)
    assert "Width" not in bag and bag.read_property("Width", 100) == 100
    bag.write_property("Array", [1], [1])
    assert "Array" not in bag


def test_a_default_that_can_not_be_compared_is_another(bag):
    value = Comparison()
    bag.write_property("Array", value)
    bag.write_property("Other", value, 5)
    assert bag["Array"] is value and bag["Other"] is value


def test_it_is_a_mapping(bag):
    bag["x"] = [1]
    assert bag["x"] == [1] and "x" in bag and len(bag) == 3 and list(bag) == ["Name", "Count", "x"]
    del bag["x"]
    assert bag.pop("Count") == 5 and bag.setdefault("y", 1) == 1 and bag.get("no") is None
    assert dict(bag) == {"Name": "npipes", "y": 1} and bag.keys() == {"Name", "y"}
    bag.update(z=2)
    assert bag["z"] == 2
    bag.clear()
    assert len(bag) == 0 and not bag
    for name in ("x", 5):
        with pytest.raises(KeyError):
            bag[name]
        with pytest.raises(KeyError):
            del bag[name]
        assert name not in bag


@pytest.mark.parametrize("name", [5, None, True, b"x", 1.5, ("x",), 1 << 64, 10**5000], ids=range(8))
def test_names_are_text(bag, name):
    before = dict(bag)
    for change in (
        lambda: bag.__setitem__(name, 1),
        lambda: bag.write_property(name, 1),
        lambda: bag.write_property(name, 1, 1),
        lambda: bag.read_property(name),
        lambda: bag.update({name: 1}),
        lambda: bag.setdefault(name, 1),
    ):
        with pytest.raises(TypeError, match="name of a property must be a str") as caught:
            change()
        told = f"of type {type(name).__name__}" if type(name) is tuple or name in (1 << 64, 10**5000) else repr(name)
        assert told in str(caught.value)
    assert dict(bag) == before


def test_a_name_of_a_subclass_of_str_is_stored_as_text(bag):
    class Name(str):
        def __str__(self):
            return "other"

    bag[Name("x")] = 1
    assert type(list(bag)[-1]) is str and bag["x"] == 1


def test_contents_are_a_pickled_dict(bag):
    assert type(bag.contents) is bytes
    assert pickle.loads(bag.contents) == {"Name": "npipes", "Count": 5}
    assert bag.contents == pickle.dumps({"Name": "npipes", "Count": 5}, 5)
    other = PropertyBag()
    other["old"] = 1
    other.contents = bag.contents
    assert other == bag and "old" not in other
    assert PropertyBag(bag.contents) == bag == PropertyBag(bytearray(bag.contents)) == PropertyBag(memoryview(bag.contents))
    assert PropertyBag(pickle.dumps({"a": 1}, 2)) == {"a": 1}
    assert PropertyBag(npipes.dumps(bag)) == bag


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"x",
        b"\x80\5}",
        npipes.dumps([1]),
        npipes.dumps(None),
        npipes.dumps({1: 1}),
        npipes.dumps({"a": 1, None: 2}),
        npipes.dumps(collections.OrderedDict(a=1)),
        npipes.dumps({"a": Custom()}),
        npipes.dumps({"a": 1}) + b"x",
        npipes.dumps({b"a": 1}),
        b"\x80\5cos\nsystem\n(X\2\0\0\0lst R.",
    ],
)
def test_bad_contents_leave_the_bag_as_it_was(bag, contents):
    before = dict(bag)
    with pytest.raises(npipes.UnsafePayloadError):
        bag.contents = contents
    assert dict(bag) == before
    with pytest.raises(npipes.UnsafePayloadError):
        PropertyBag(contents)


def test_a_name_that_has_no_end_is_not_shown():
    """A tuple that has one other twice, which has one other twice, and so on, and a text in the middle of it."""
    doubled = "x" * 100_000
    for _ in range(10):
        doubled = (doubled, doubled)
    contents = npipes.dumps({doubled: 1})
    tracemalloc.start()
    try:
        with pytest.raises(npipes.UnsafePayloadError, match="a name that is not a str but of type tuple"):
            PropertyBag(contents)
        with pytest.raises(TypeError, match="must be a str, not of type tuple"):
            PropertyBag()[doubled] = 1
        assert tracemalloc.get_traced_memory()[1] < 10 * len(contents)
    finally:
        tracemalloc.stop()


def test_contents_that_are_no_bytes_are_a_type_error(bag):
    for contents in ("text", 5, None, {"a": 1}):
        with pytest.raises(TypeError):
            bag.contents = contents
    assert len(bag) == 2


def test_a_value_that_can_not_be_pickled_says_so_when_it_is_to(bag):
    bag["f"] = lambda: None
    with pytest.raises((pickle.PicklingError, AttributeError)):
        bag.contents
    assert len(bag) == 3


def test_allow_and_trusted_are_for_all_contents_of_the_bag():
    contents = npipes.dumps({"x": Custom()})
    assert PropertyBag(contents, allow=[Custom])["x"] == Custom()
    assert PropertyBag(contents, trusted=True)["x"] == Custom()
    bag = PropertyBag(allow=[f"{__name__}.Custom"])
    bag.contents = contents
    for copied in (bag.copy(), copy.copy(bag), copy.deepcopy(bag)):
        assert type(copied) is PropertyBag and copied == bag
    bag.copy().contents = contents
    with pytest.raises(npipes.UnsafePayloadError):
        PropertyBag().contents = contents


def test_a_copy_is_another_bag(bag):
    other = bag.copy()
    other["x"] = 1
    assert "x" not in bag and other != bag


def test_bags_are_equal_to_mappings_of_the_same(bag):
    assert bag == {"Name": "npipes", "Count": 5} and bag == bag.copy()
    assert bag != {"Name": "npipes"} and bag != 5
    with pytest.raises(TypeError):
        hash(bag)


def test_repr_shows_the_properties(bag):
    assert repr(bag) == "PropertyBag({'Name': 'npipes', 'Count': 5})"


def test_a_bag_is_a_value_of_a_payload(bag):
    bag["inner"] = bag.copy()
    bag["when"] = datetime.datetime(2024, 1, 1)
    got = npipes.loads(npipes.dumps([bag]))
    assert got == [bag] and type(got[0]) is type(got[0]["inner"]) is PropertyBag
    assert PropertyBag(bag.contents) == bag
    assert pickle.loads(pickle.dumps(bag)) == bag


class OfMine(PropertyBag):
    pass


def test_a_subclass_is_a_class_like_others():
    bag = OfMine()
    bag["x"] = 1
    assert type(bag.copy()) is OfMine and OfMine(bag.contents) == bag
    assert repr(bag) == "OfMine({'x': 1})"
    with pytest.raises(npipes.UnsafePayloadError, match="OfMine is not allowed"):
        npipes.loads(npipes.dumps(bag))
    assert type(npipes.loads(npipes.dumps(bag), allow=[OfMine])) is OfMine


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), plain_values.values, max_size=5))
def test_every_bag_of_plain_values_comes_back(values):
    bag = PropertyBag()
    bag.update(values)
    assert plain_values.kinds(dict(PropertyBag(bag.contents))) == plain_values.kinds(values)
