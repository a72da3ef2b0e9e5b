"""Objects as bytes, and back without anything of the sender's being run."""

import importlib
import pickle
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

from npipes import plain
from npipes._npipes import _read
from npipes.plain import Name

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["UnsafePayloadError", "dumps", "loads"]

PROTOCOL = 5


class UnsafePayloadError(pickle.UnpicklingError, ValueError):
    """A payload that loads() does not take: it names what is not allowed, or it is no payload at all.

    Nothing of it has run.
    """

    __module__ = "npipes"


# ---- what may be read ----------------------------------------------------


class Reading:
    """What a payload may hold: plain values, and what `allow` names; all that pickle can do if it is trusted."""

    __slots__ = ("__weakref__", "_names", "allow", "trusted")

    def __init__(self, trusted: bool = False, allow: "Iterable[type | str]" = ()) -> None:
        if not isinstance(trusted, bool):
            raise TypeError(f"trusted must be True or False, not {trusted!r}")
        if isinstance(allow, (str, bytes, type)) or not isinstance(allow, Iterable):
            raise TypeError(f"allow must be an iterable of classes and of names of them, not {allow!r}")
        self.trusted = trusted
        self.allow = tuple(allow)
        self._names: dict[tuple[str, str], Name | None] = {}
        for entry in self.allow:
            if isinstance(entry, type):
                label = f"{entry.__module__}.{entry.__qualname__}"
                self._names[entry.__module__, entry.__qualname__] = _allowed(label, entry)
            else:
                self._names[_split(entry)] = None

    def __reduce__(self) -> tuple[type["Reading"], tuple[bool, tuple[type | str, ...]]]:
        return Reading, (self.trusted, self.allow)

    # What the machine in C asks for.

    def find(self, module: str, name: str) -> Name | None:
        """What a payload may mean by these two."""
        if module == "__builtin__":  # as protocol 2 has it
            module = "builtins"
        found = plain.find(module, name)
        if found is None and (module, name) in self._names:
            found = self._names[module, name]
            if found is None:
                found = self._names[module, name] = _look_up(module, name)
        return found

    def extend(self, instance: Any, items: list[Any]) -> None:
        """Gives items to an instance that was made newly and is no list."""
        extend = getattr(type(instance), "extend", None)
        if extend is not None:
            extend(instance, items)
        else:
            for item in items:
                type(instance).append(instance, item)

    def build(self, instance: Any, state: Any) -> None:
        """Gives an instance that was made newly its state."""
        cls = type(instance)
        name = plain.find(cls.__module__, cls.__qualname__)
        if name is not None and name.value is cls:
            if not name.needs_state:
                raise ValueError(f"{name} has no state")
            plain.set_uuid(instance, state)
            return
        setstate = getattr(cls, "__setstate__", None)
        if setstate is not None:
            setstate(instance, state)
        else:
            _set_attributes(instance, state)


def _split(entry: object) -> tuple[str, str]:
    """The module and the qualified name of 'module.name' or 'module:outer.inner'."""
    if not isinstance(entry, str):
        raise TypeError(f"allow has {entry!r}, which is neither a class nor the name of one")
    separator = ":" if ":" in entry else "."
    module, _, name = entry.rpartition(separator)
    if not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise ValueError(f"allow has {entry!r}, which is not 'module.name' or 'module:outer.inner'")
    return module, name


def _look_up(module: str, name: str) -> Name:
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    if not callable(target):
        raise TypeError(f"{module}.{name} is neither a class nor a function")
    return _allowed(f"{module}.{name}", target)


def _allowed(label: str, target: Callable[..., object]) -> Name:
    new = partial(target.__new__, target) if isinstance(target, type) else None
    value = target if isinstance(target, type) else None
    return Name(label, value, make=target, new=new, fills=True, plain=False)


def _set_attributes(instance: object, state: Any) -> None:
    """As object.__reduce_ex__ gives them: a dict of attributes, and one of slots beside it."""
    slots: Any = None
    if type(state) is tuple and len(state) == 2:
        state, slots = state
    for attributes in (state, slots):
        if attributes is not None and (type(attributes) is not dict or any(type(k) is not str for k in attributes)):
            raise ValueError(f"a state of {type(instance).__qualname__} is not a dict of attributes")
    if state:
        instance.__dict__.update(state)
    for name, value in (slots or {}).items():
        _slot(type(instance), name).__set__(instance, value)


def _slot(cls: type, name: str) -> MemberDescriptorType:
    """Only slots: what else has the name might run something when it is set."""
    for base in cls.__mro__:
        if name in vars(base):
            if isinstance(slot := vars(base)[name], MemberDescriptorType):
                return slot
            break
    raise ValueError(f"{cls.__qualname__} has no slot {name!r}")


USUAL = Reading()

# ---- dumps, loads --------------------------------------------------------


def dumps(obj: object, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """An object as bytes that loads() and pickle.loads() read: a pickle of protocol 5.

    buffer_callback: called with each pickle.PickleBuffer that is to travel beside these bytes instead of in them, uncopied.
    """
    return pickle.dumps(obj, PROTOCOL, buffer_callback=buffer_callback)


def loads(
    data: "ReadableBuffer",
    buffers: "Iterable[ReadableBuffer] | None" = None,
    *,
    trusted: bool = False,
    allow: "Iterable[type | str]" = (),
) -> Any:
    """The object in bytes that dumps(), or pickle, made.

    Unless trusted, it may consist of plain values and containers, dates and times, Decimal, Fraction, UUID, PropertyBag, and
    of instances of the classes in allow (classes, or their names as 'module.name'); anything else, and bytes that are no
    pickle, raise UnsafePayloadError, and nothing of them has run.

    buffers: those that buffer_callback of dumps() got, in that order.
    """
    reading = Reading(trusted, allow) if trusted is not False or allow != () else USUAL
    return _read(data, reading, buffers)


def dumps_to_send(obj: object) -> "ReadableBuffer":
    """What Client.send() sends.

    Where multiprocessing is in use its own pickler is, which knows how Connections and locks go to another process.
    """
    reduction: Any = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        return pickle.dumps(obj, PROTOCOL)
    return reduction.ForkingPickler.dumps(obj, PROTOCOL)  # type: ignore[no-any-return]
