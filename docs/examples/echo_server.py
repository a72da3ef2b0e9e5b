"""Answers every message with itself, until Ctrl-C.

python echo_server.py [NAME]
python echo_server.py --check       serves itself for a moment, and says whether it works
"""

import os
import sys
from multiprocessing.connection import Client

import npipes


def make_server(name="demo", **options):
    server = npipes.Server(name, **options)

    @server.event
    def on_ready():
        print("ready on", server.address)

    @server.event
    def on_connected(conn):
        print("connected:", conn.peer)

    @server.event
    def on_message(conn, data, cookie):
        conn.write(data)

    @server.event
    def on_disconnected(conn):
        print("disconnected:", conn.error or "orderly")

    return server


def check():
    server = make_server(f"echo-{os.getpid()}", free_threading_events=True)
    with server, Client(server.address) as client:
        for message in (b"hello", bytes(1_000_000)):
            client.send_bytes(message)
            assert client.recv_bytes() == message


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        try:
            with make_server(*sys.argv[1:]) as server:
                server.run()
        except KeyboardInterrupt:
            pass
