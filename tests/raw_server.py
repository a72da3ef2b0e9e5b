"""A server that is no npipes.Server: it has room for one client, and never takes it."""

import contextlib
import os
import socket

from support import WINDOWS, eventually, python_address


@contextlib.contextmanager
def silent_server(address):
    if WINDOWS:
        import _winapi

        handle = _winapi.CreateNamedPipe(
            address,
            _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED,
            _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE | _winapi.PIPE_WAIT,
            1,
            65536,
            65536,
            0,
            _winapi.NULL,
        )
        try:
            yield
        finally:
            _winapi.CloseHandle(handle)
        return
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(python_address(address))
        listener.listen(0)
        try:
            yield
        finally:
            os.unlink(address)


def fill(manager, name):
    """Connects until the server has no more room; the connection that found none."""
    for _ in range(10):
        conn = manager.connect(name, timeout=0)
        assert eventually(lambda conn=conn: conn.is_connected or conn.error)
        if conn.error:
            return conn
    raise AssertionError("the server always has room")
