"""Windows: a server of pywin32, and the same with npipes; needs pywin32.

python from_pywin32.py --check
"""

import os
import threading

import npipes
import pywintypes
import win32file
import win32pipe
import winerror


def before(address, ready):
    """One client; messages of at most 64 KiB."""
    pipe = win32pipe.CreateNamedPipe(
        address,
        win32pipe.PIPE_ACCESS_DUPLEX,
        win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE | win32pipe.PIPE_WAIT,
        1,
        65536,
        65536,
        0,
        None,
    )
    ready.set()
    win32pipe.ConnectNamedPipe(pipe, None)
    try:
        while True:
            _, data = win32file.ReadFile(pipe, 65536)
            win32file.WriteFile(pipe, data.upper())
    except pywintypes.error as error:
        assert error.winerror == winerror.ERROR_BROKEN_PIPE
    finally:
        win32file.CloseHandle(pipe)


def after(address):
    """Any number of clients, messages of any size; to be entered."""
    server = npipes.Server(address, free_threading_events=True)
    server.on_message = lambda conn, data, cookie: conn.write(data.upper())
    return server


def ask(address, data):
    """A client of pywin32, for either."""
    return win32pipe.CallNamedPipe(address, data, 65536, 20000)


def check():
    address = npipes.address(f"moved-{os.getpid()}")
    for client in (ask, npipes.call):
        ready = threading.Event()
        thread = threading.Thread(target=before, args=(address, ready))
        thread.start()
        assert ready.wait(20)
        assert client(address, b"hello") == b"HELLO"
        thread.join(20)
        with after(address):
            assert client(address, b"hello") == b"HELLO"


if __name__ == "__main__":
    check()
