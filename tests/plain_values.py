"""Strategies of hypothesis for what a payload may hold without being allowed to."""

import collections
import datetime
import decimal
import fractions
import uuid
import zoneinfo

from hypothesis import strategies as st

ZONES = sorted({"UTC", "Europe/Berlin", "America/New_York"} & zoneinfo.available_timezones())

offsets = st.sampled_from([datetime.timezone(datetime.timedelta(minutes=m)) for m in (-1439, -60, 0, 1, 330)])
zones = st.sampled_from(ZONES).map(zoneinfo.ZoneInfo) if ZONES else offsets
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(["\ud800", "x" * 300, "\U0001f600"]),
    st.binary(),
    st.complex_numbers(allow_nan=False),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.datetimes(timezones=offsets),
    offsets,
    st.uuids(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.builds(range, st.integers(-5, 5), st.integers(), st.integers(1, 9)),
)
keys = hashable | st.lists(hashable, max_size=3).map(tuple) | st.frozensets(hashable, max_size=3)
leaves = st.one_of(
    keys,
    st.binary().map(bytearray),
    st.builds(slice, st.none() | st.integers(), st.integers()),
    zones,
    st.datetimes(timezones=zones),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(keys, max_size=3),
        st.dictionaries(hashable, inner, max_size=2).map(collections.OrderedDict),
    ),
    max_leaves=10,
)


def kinds(value):
    """The value with the type of everything in it: 1 == True == 1.0, and this is not."""
    if isinstance(value, dict):
        return type(value), tuple((kinds(k), kinds(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(kinds, value))
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(kinds, value))
    if isinstance(value, (datetime.datetime, datetime.time)):
        return type(value), value.isoformat(), value.fold, value.tzinfo
    if isinstance(value, (bytearray, slice, decimal.Decimal, fractions.Fraction, uuid.UUID, float, complex)):
        return type(value), repr(value)
    return type(value), value
