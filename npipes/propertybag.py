"""Named values as one message."""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from npipes._npipes import _read
from npipes.payload import USUAL, Reading, UnsafePayloadError, dumps

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from typing import Self

__all__ = ["PropertyBag"]


class PropertyBag(MutableMapping[str, Any]):
    """A mapping of names to values that goes to another process as bytes, its contents.

    contents: those of another bag, to begin with. trusted, allow: what contents may hold, as in loads(). Threads that change a
    bag need a lock, as they do with a dict.
    """

    __module__ = "npipes"
    __slots__ = ("__weakref__", "_reading", "_values")

    def __init__(
        self,
        contents: "ReadableBuffer | None" = None,
        *,
        trusted: bool = False,
        allow: "Iterable[type | str]" = (),
    ) -> None:
        self._reading = Reading(trusted, allow) if trusted is not False or allow != () else USUAL
        self._values: dict[str, Any] = {}
        if contents is not None:
            self.contents = contents

    def write_property(self, name: str, value: Any, default: Any = None) -> None:
        """Set a property; one that is equal to its default is not stored, and leaves with the name's old value."""
        if value is default or (default is not None and (value == default) is True):
            self._values.pop(_checked(name), None)
        else:
            self[name] = value

    def read_property(self, name: str, default: Any = None) -> Any:
        """A property's value, or the default if there is none."""
        return self._values.get(_checked(name), default)

    @property
    def contents(self) -> bytes:
        """All properties as bytes: a pickled dict. Setting it replaces them; bad contents raise UnsafePayloadError and change
        nothing."""
        return dumps(self._values)

    @contents.setter
    def contents(self, data: "ReadableBuffer") -> None:
        values = _read(data, self._reading, None)
        if type(values) is PropertyBag:
            values = values._values
        if type(values) is not dict:
            raise UnsafePayloadError(f"the contents of a bag are a dict, not {type(values).__qualname__}")
        for name in values:
            if type(name) is not str:
                raise UnsafePayloadError(f"the contents of a bag have a name that is not a str but {_told(name)}")
        self._values = values

    def copy(self) -> "Self":
        """Another bag with the same properties, which takes the same contents."""
        new = type(self).__new__(type(self))
        new._reading = self._reading
        new._values = self._values.copy()
        return new

    __copy__ = copy

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[_checked(name)] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def clear(self) -> None:
        """Remove all properties."""
        self._values.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (), None, None, iter(self._values.items())


def _checked(name: object) -> str:
    if type(name) is str:
        return name
    if isinstance(name, str):
        return str.__str__(name)
    raise TypeError(f"the name of a property must be a str, not {_told(name)}")


def _told(name: object) -> str:
    """The name where that is short for sure: a payload can have a tuple whose repr() fills the memory."""
    kind = type(name)
    if isinstance(name, bytes):
        return repr(name[:50])
    if name is None or kind is float or (isinstance(name, int) and abs(name) < 1 << 64):
        return repr(name)
    return f"of type {kind.__qualname__}"
