"""How the engine's worker wakes a loop that can't watch the engine: where it is a Proactor, by packets."""

import asyncio
import importlib
import sys
from typing import Any

from npipes._npipes import ClientManager, Server

__all__ = ["Packets", "packets_to"]


class Packets:
    """Packets to the completion port of a Proactor loop, for each of which the loop calls a function soon.

    call_soon_threadsafe would do, but takes the GIL in the worker, a socket, and for every wake-up a new read of it
    and that read's future.  The proactor calls what it finds registered for a packet's address; for it
    this object is the future of an operation that never ends.
    """

    def __init__(self, loop: Any, endpoint: Server | ClientManager, overlapped: Any) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._proactor = loop._proactor
        self._overlapped = overlapped  # for its address only
        self._closed = False
        self._register()
        endpoint._wake_by(self._proactor._iocp, overlapped.address)

    def _register(self) -> None:
        self._proactor._cache[self._overlapped.address] = (self, self._overlapped, 0, self._came)

    def _came(self, transferred: int, key: int, overlapped: object) -> None:
        if not self._closed:
            self._register()
            self._loop.call_soon(self._endpoint._drive)

    def close(self) -> None:
        """In the loop's thread.  A packet that is on its way still finds the address registered."""
        if not self._closed:
            self._shut()
            self._proactor._unregister(self._overlapped)

    def _shut(self) -> None:
        self._closed = True
        self._endpoint._wake_by(0, 0)

    # ---- what the proactor asks of a future

    def cancel(self) -> bool:
        """The loop is being closed: it waits until nothing is registered."""
        self._shut()
        self._proactor._cache.pop(self._overlapped.address, None)
        return True

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return False

    def set_result(self, result: object) -> None:
        pass

    def set_exception(self, exception: BaseException) -> None:
        pass


def packets_to(loop: Any, endpoint: Server | ClientManager) -> Packets | None:
    """None where the loop is no Proactor, or none as CPython's is."""
    if sys.platform != "win32":
        return None
    proactor = getattr(loop, "_proactor", None)
    known = all(hasattr(proactor, name) for name in ("_cache", "_iocp", "_unregister"))
    if not isinstance(proactor, asyncio.IocpProactor) or not known:
        return None
    return Packets(loop, endpoint, importlib.import_module("_overlapped").Overlapped(0))
