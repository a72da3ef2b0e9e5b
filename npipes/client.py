"""The blocking side's parts in Python: one request, waiting for several, going to another process."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from npipes._npipes import Client, _adopt, connect

if TYPE_CHECKING:
    import os

    from _typeshed import ReadableBuffer

__all__ = ["call", "wait"]


def call(
    name: "str | os.PathLike[str]",
    data: "ReadableBuffer",
    *,
    timeout: float | None = 5.0,
    authkey: "ReadableBuffer | None" = None,
    max_message_size: int = 64 << 20,
    server_owner: Literal["user"] | None = None,
) -> bytes:
    """Connect, send one message, wait for one, and close, in timeout seconds altogether."""
    begin = time.monotonic()
    with connect(
        name,
        timeout=timeout,
        authkey=authkey,
        max_message_size=max_message_size,
        server_owner=server_owner,
    ) as client:
        return client._call(data, timeout, time.monotonic() - begin)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until something can be received from one of the objects; a list of those it can be from.

    The objects are Clients, and whatever multiprocessing.connection.wait() takes.
    """
    from multiprocessing import connection

    objects = list(object_list)
    found = {id(o) for o in objects if isinstance(o, Client) and not o.closed and o._holds}
    others = [o for o in objects if id(o) not in found]
    if others or not objects:
        found.update(id(o) for o in connection.wait(others, 0 if found else timeout))
    return [o for o in objects if id(o) in found]


# ---- to another process --------------------------------------------------

if sys.platform == "win32":
    import _winapi

    def _reduce(client: Client) -> tuple[Callable[..., Client], tuple[Any, ...]]:
        from multiprocessing import reduction

        access = _winapi.FILE_GENERIC_READ | _winapi.FILE_GENERIC_WRITE
        duplicate = reduction.DupHandle(client.fileno(), access)
        return _rebuild, (duplicate, *_traits(client))

else:

    def _reduce(client: Client) -> tuple[Callable[..., Client], tuple[Any, ...]]:
        from multiprocessing import reduction

        return _rebuild, (reduction.DupFd(client.fileno()), *_traits(client))


def _traits(client: Client) -> tuple[Any, ...]:
    """What _adopt() takes after the handle."""
    return client.address, client.readable, client.writable, client.max_message_size, client._reading


def _rebuild(duplicate: Any, *traits: Any) -> Client:
    return _adopt(duplicate.detach(), *traits)
