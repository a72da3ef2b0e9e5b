"""A server of multiprocessing.connection, and the same with npipes.

python from_multiprocessing.py --check
"""

import os
import threading
from multiprocessing.connection import Client, Listener

import npipes

KEY = os.urandom(32)


def before(address, ready):
    """One client at a time; who is silent holds up all others."""
    with Listener(address, authkey=KEY) as listener:
        ready.set()
        with listener.accept() as conn:
            try:
                while True:
                    conn.send_bytes(conn.recv_bytes().upper())
            except EOFError:
                pass


def after(address):
    """Any number of clients; to be entered."""
    return npipes.Server(
        address,
        authkey=KEY,
        free_threading_events=True,
        on_message=lambda conn, data, cookie: conn.write(data.upper()),
    )


def check():
    address = npipes.address(f"moved-{os.getpid()}")
    ready = threading.Event()
    thread = threading.Thread(target=before, args=(address, ready))
    thread.start()
    assert ready.wait(20)
    with npipes.connect(address, authkey=KEY) as client:  # the client has moved
        assert client.call(b"hello", timeout=20) == b"HELLO"
    thread.join(20)

    with after(address):  # the server has
        with Client(address, authkey=KEY) as one, npipes.connect(address, authkey=KEY) as two:
            one.send_bytes(b"one")
            assert two.call(b"two", timeout=20) == b"TWO"
            assert one.recv_bytes() == b"ONE"


if __name__ == "__main__":
    check()
