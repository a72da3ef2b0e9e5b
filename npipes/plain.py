"""What every payload may name: the plain values that a pickle has no opcode for.

A payload calls none of these classes itself. Each has a function here that looks at the arguments, takes what the class's own
`__reduce__` gives and nothing else, and makes the value by the class's public constructor, so that there are no values that
could not have been made otherwise.
"""

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Name", "find"]


class Name:
    """What a payload may name, and what the opcodes of pickle that call something call for it."""

    __slots__ = ("fills", "label", "make", "needs_state", "new", "plain", "value")

    def __init__(
        self,
        label: str,
        value: object = None,
        *,
        make: Callable[..., object] | None = None,  # REDUCE
        new: Callable[..., object] | None = None,  # NEWOBJ, NEWOBJ_EX
        fills: bool = False,  # what was made gets items, or a state
        needs_state: bool = False,  # and is nothing without
        plain: bool = True,  # of this file: copies its arguments, so they count
    ) -> None:
        self.label = label
        self.value = value  # what it is where a value stands; None: nothing
        self.make = make
        self.new = new
        self.fills = fills
        self.needs_state = needs_state
        self.plain = plain

    def __str__(self) -> str:
        return self.label


def find(module: str, name: str) -> Name | None:
    """The Name that every payload may use, or None."""
    make = _MODULES.get(module)
    if make is None:
        return None
    if module not in _made:
        _made[module] = make()  # imports the module now that a payload names it
    return _made[module].get(name)


_made: dict[str, Mapping[str, Name]] = {}


def _refuse(what: str, args: tuple[object, ...]) -> ValueError:
    types = ", ".join(type(arg).__name__ for arg in args)
    return ValueError(f"a {what} is not made of ({types})")


def _are(args: tuple[object, ...], *types: type) -> bool:
    return len(args) == len(types) and all(type(a) is t for a, t in zip(args, types))


# ---- builtins ------------------------------------------------------------


def _bytearray(*args: Any) -> bytearray:
    if not args:
        return bytearray()
    if _are(args, bytes):
        return bytearray(args[0])
    raise _refuse("bytearray", args)


def _bytes(*args: Any) -> bytes:
    """How no bytes are written by protocols that have no bytes."""
    if args:
        raise _refuse("bytes object", args)
    return b""


def _complex(*args: Any) -> complex:
    if _are(args, float, float):
        return complex(*args)
    raise _refuse("complex", args)


# Dividing one number by another takes time that grows with the square of their digits; so many are what int() takes as text.
_DIGITS = 4300
_BITS = 14284


def _range(*args: Any) -> range:
    """It counts its steps when it is made."""
    if _are(args, int, int, int) and all(n.bit_length() <= _BITS for n in args):
        return range(*args)
    raise _refuse(f"range of numbers of at most {_DIGITS} digits", args)


def _slice(*args: Any) -> slice:
    if len(args) == 3 and all(arg is None or type(arg) is int for arg in args):
        return slice(*args)
    raise _refuse("slice", args)


def _getattr(*args: Any) -> Name:
    """A ZoneInfo says of itself that it is made by an attribute of its class."""
    from zoneinfo import ZoneInfo

    if len(args) == 2 and args[0] is ZoneInfo and args[1] == "_unpickle":
        return Name("zoneinfo.ZoneInfo._unpickle", make=_zone)
    raise ValueError("it asks for an attribute")


def _builtins() -> Mapping[str, Name]:
    return {
        "set": Name("set", set, make=set),
        "frozenset": Name("frozenset", frozenset, make=frozenset),
        "bytearray": Name("bytearray", bytearray, make=_bytearray),
        "bytes": Name("bytes", bytes, make=_bytes),
        "complex": Name("complex", complex, make=_complex),
        "range": Name("range", range, make=_range),
        "xrange": Name("range", range, make=_range),
        "slice": Name("slice", slice, make=_slice),
        "getattr": Name("getattr", make=_getattr),
    }


def _encode(*args: Any) -> bytes:
    """How bytes are written there."""
    if _are(args, str, str) and args[1] == "latin1":
        return bytes(args[0], "latin1")
    raise _refuse("bytes", args)


def _codecs() -> Mapping[str, Name]:
    return {"encode": Name("_codecs.encode", make=_encode)}


# ---- dates and times -----------------------------------------------------


def _zone_of(args: tuple[Any, ...]) -> datetime.tzinfo | None:
    if len(args) == 1:
        return None
    if len(args) == 2 and isinstance(args[1], datetime.tzinfo):
        return args[1]
    raise _refuse("time", args)


def _state(args: tuple[Any, ...], size: int) -> bytes:
    if args and type(args[0]) is bytes and len(args[0]) == size:
        return args[0]
    raise _refuse("date or time", args)


def _date(*args: Any) -> datetime.date:
    if len(args) != 1:
        raise _refuse("date", args)
    high, low, month, day = _state(args, 4)
    return datetime.date(high << 8 | low, month, day)


def _time(*args: Any) -> datetime.time:
    hour, minute, second, *micro = _state(args, 6)
    return datetime.time(hour & 127, minute, second, int.from_bytes(micro), _zone_of(args), fold=hour >> 7)


def _datetime(*args: Any) -> datetime.datetime:
    high, low, month, day, hour, minute, second, *micro = _state(args, 10)
    return datetime.datetime(
        high << 8 | low, month & 127, day, hour, minute, second, int.from_bytes(micro), _zone_of(args), fold=month >> 7
    )


def _timedelta(*args: Any) -> datetime.timedelta:
    if _are(args, int, int, int):
        return datetime.timedelta(*args)
    raise _refuse("timedelta", args)


def _timezone(*args: Any) -> datetime.timezone:
    if _are(args, datetime.timedelta) or _are(args, datetime.timedelta, str):
        return datetime.timezone(*args)
    raise _refuse("timezone", args)


def _datetimes() -> Mapping[str, Name]:
    return {
        "date": Name("datetime.date", datetime.date, make=_date),
        "time": Name("datetime.time", datetime.time, make=_time),
        "datetime": Name("datetime.datetime", datetime.datetime, make=_datetime),
        "timedelta": Name("datetime.timedelta", datetime.timedelta, make=_timedelta),
        "timezone": Name("datetime.timezone", datetime.timezone, make=_timezone),
    }


_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}", re.ASCII)


_zones: dict[str, datetime.tzinfo] = {}
_ZONES_KEPT = 1000


def _zone(*args: Any) -> datetime.tzinfo:
    """The zone that the cache has or gets: of each there is one, however often it is named.

    zoneinfo forgets most of those that nobody has, and would read their files again and again.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if len(args) != 2 or type(args[0]) is not str or not _ZONE.fullmatch(args[0]):
        raise _refuse("ZoneInfo", args)
    try:
        zone = ZoneInfo(args[0])
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f"this machine has no time zone {args[0]!r}") from error
    if len(_zones) < _ZONES_KEPT or args[0] in _zones:
        _zones[args[0]] = zone
    return zone


def _zoneinfo() -> Mapping[str, Name]:
    from zoneinfo import ZoneInfo

    return {
        "ZoneInfo": Name("zoneinfo.ZoneInfo", ZoneInfo),
        "ZoneInfo._unpickle": Name("zoneinfo.ZoneInfo._unpickle", make=_zone),
    }


# ---- numbers, UUID, mappings ---------------------------------------------


def _decimal() -> Mapping[str, Name]:
    from decimal import Decimal

    def decimal(*args: Any) -> Decimal:
        if _are(args, str):
            return Decimal(args[0])
        raise _refuse("Decimal", args)

    return {"Decimal": Name("decimal.Decimal", Decimal, make=decimal)}


_FRACTION = re.compile(r"-?[0-9]{1,%d}(/[0-9]{1,%d})?" % (_DIGITS, _DIGITS))


def _fractions() -> Mapping[str, Name]:
    from fractions import Fraction

    def fraction(*args: Any) -> Fraction:
        if _are(args, str) and _FRACTION.fullmatch(args[0]):
            return Fraction(args[0])
        if _are(args, int, int) and all(n.bit_length() <= _BITS for n in args):
            return Fraction(*args)
        raise _refuse(f"Fraction of at most {_DIGITS} digits", args)

    return {"Fraction": Name("fractions.Fraction", Fraction, make=fraction)}


def _uuid() -> Mapping[str, Name]:
    from uuid import UUID

    def new(*args: Any) -> UUID:
        if args:
            raise _refuse("UUID", args)
        return UUID.__new__(UUID)

    return {"UUID": Name("uuid.UUID", UUID, new=new, fills=True, needs_state=True)}


def set_uuid(instance: object, state: object) -> None:
    """Gives a UUID that is new its number."""
    from uuid import UUID, SafeUUID

    if type(state) is not dict or not {"int"} <= state.keys() <= {"int", "is_safe"}:
        raise ValueError("a UUID has another state")
    number, safe = state["int"], state.get("is_safe")
    if type(number) is not int or (safe is not None and type(safe) is not int):
        raise ValueError("a UUID has another state")
    made = UUID(int=number, is_safe=SafeUUID(safe))  # with its checks
    object.__setattr__(instance, "int", made.int)
    object.__setattr__(instance, "is_safe", made.is_safe)


def _collections() -> Mapping[str, Name]:
    from collections import OrderedDict

    def ordered_dict(*args: Any) -> OrderedDict[Any, Any]:
        if args:
            raise _refuse("OrderedDict", args)
        return OrderedDict()

    return {"OrderedDict": Name("collections.OrderedDict", OrderedDict, make=ordered_dict, fills=True)}


def _npipes() -> Mapping[str, Name]:
    from npipes.propertybag import PropertyBag

    def property_bag(*args: Any) -> PropertyBag:
        if args:
            raise _refuse("PropertyBag", args)
        return PropertyBag()

    return {"PropertyBag": Name("npipes.PropertyBag", PropertyBag, make=property_bag, fills=True)}


_MODULES: dict[str, Callable[[], Mapping[str, Name]]] = {
    "builtins": _builtins,
    "_codecs": _codecs,
    "collections": _collections,
    "datetime": _datetimes,
    "decimal": _decimal,
    "fractions": _fractions,
    "npipes": _npipes,
    "uuid": _uuid,
    "zoneinfo": _zoneinfo,
}
