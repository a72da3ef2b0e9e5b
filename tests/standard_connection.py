"""npipes under the names of multiprocessing.connection, for tests that were written for that module.

Its peers are trusted, as that module trusts all of them.
"""

import itertools
import os
import sys

import npipes

families = ["AF_PIPE" if sys.platform == "win32" else "AF_UNIX"]
_numbers = itertools.count(1)


class Connection:
    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._client, name)

    def __reduce__(self):
        return Connection, (self._client,)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._client.close()


class Listener:
    def __init__(self, address=None, family=None):
        assert family in (None, *families)
        name = address or f"adapter-{os.getpid()}-{next(_numbers)}"
        self._listener = npipes.Listener(_ours(name), trusted=True)

    @property
    def address(self):
        return self._listener.address

    def accept(self):
        return Connection(self._listener.accept())

    def close(self):
        self._listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def Client(address, family=None):
    assert family in (None, *families)
    return Connection(npipes.connect(_ours(address), trusted=True))


def Pipe(duplex=True):
    a, b = npipes.Pipe(duplex, trusted=True)
    return Connection(a), Connection(b)


def _ours(address):
    return "@" + address[1:] if address.startswith("\0") else address
