"""What a test may have left behind."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import npipes
from npipes._npipes import Connection

# Executors of event loops, which end with the loop: later, when a plugin has made it for the test.
_LOOPS_THREADS = ("asyncio_", "AnyIO worker thread")
_PATIENCE = 5.0  # seconds that what is ending has to end


def _is_open(thing: Any) -> bool:
    if isinstance(thing, (npipes.Client, npipes.Listener)):
        return not thing.closed
    if isinstance(thing, (npipes.Server, npipes.ClientManager)):
        return thing.is_running
    return bool(thing.is_connected)


_KINDS = (
    npipes.Client,
    npipes.Listener,
    npipes.Server,
    npipes.ClientManager,
    npipes.ServerConnection,
    npipes.ClientConnection,
    Connection,
)


def _open_things() -> list[Any]:
    # By type, not isinstance(): that asks objects, and theirs may have a __class__ that does things.
    return [o for o in gc.get_objects() if issubclass(type(o), _KINDS) and _is_open(o)]


def _threads() -> set[int]:
    """Those of this process, the engine's included where the system tells."""
    if sys.platform == "linux":
        return {int(task) for task in os.listdir("/proc/self/task")}
    # Foreign threads that asked for current_thread() stay in the list for ever.
    dummy = threading._DummyThread
    return {t.ident or 0 for t in threading.enumerate() if not isinstance(t, dummy)}


class Leaks:
    """A look before the test; left() is the look after it."""

    def __init__(self) -> None:
        self._things = {id(thing): thing for thing in _open_things()}
        self._threads = _threads()

    def left(self, names: Iterable[str]) -> list[str]:
        """What is there that was not, in words; names are those that the test got."""
        gc.collect()
        return [
            *_lasting(self._new_things),
            *_lasting(self._new_threads),
            *_lasting(lambda: _socket_files(names)),
        ]

    def _new_things(self) -> list[str]:
        return [repr(thing) for thing in _open_things() if id(thing) not in self._things]

    def _new_threads(self) -> list[str]:
        names = {t.native_id: t.name for t in threading.enumerate()}
        new = {number: names.get(number, str(number)) for number in _threads() - self._threads}
        return [f"thread {name}" for name in new.values() if not name.startswith(_LOOPS_THREADS)]


def _lasting(look: Callable[[], list[str]]) -> list[str]:
    """What is still there after a while."""
    end = time.monotonic() + _PATIENCE
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def _socket_files(names: Iterable[str]) -> list[str]:
    if sys.platform == "win32":
        return []
    return [f"socket file {path}" for path in map(npipes.address, names) if os.path.lexists(path)]
