"""A room: the first message of a client is its name, every other goes to all clients.

python chat_broadcast.py [NAME]
python chat_broadcast.py --check
"""

import os
import sys
from multiprocessing.connection import Client

import npipes


class Room(npipes.Server):
    """conn.custom_data is the name of who is there, None before it is known."""

    def on_message(self, conn, data, cookie):
        if conn.custom_data is None:
            conn.custom_data = data
            self.broadcast(data + b" has come")
        else:
            self.broadcast(conn.custom_data + b": " + data)

    def on_disconnected(self, conn):
        if conn.custom_data is not None:
            self.broadcast(conn.custom_data + b" has left")

    def on_error(self, conn, error):
        # A client that takes nothing has 64 MiB waiting: it misses this message.
        print(error, file=sys.stderr)


def check():
    with Room(f"room-{os.getpid()}", free_threading_events=True) as room:
        with Client(room.address) as ann:
            ann.send_bytes(b"Ann")
            assert ann.recv_bytes() == b"Ann has come"
            with Client(room.address) as bob:
                bob.send_bytes(b"Bob")
                assert ann.recv_bytes() == bob.recv_bytes() == b"Bob has come"
                ann.send_bytes(b"hello")
                assert ann.recv_bytes() == bob.recv_bytes() == b"Ann: hello"
            assert ann.recv_bytes() == b"Bob has left"


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        try:
            with Room(*sys.argv[1:] or ["demo"]) as room:
                print("open on", room.address)
                room.run()
        except KeyboardInterrupt:
            pass
