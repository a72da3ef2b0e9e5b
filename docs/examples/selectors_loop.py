"""Linux: a server inside a loop that is the program's own, beside its other sources of events.

    python selectors_loop.py [NAME]     echoes, and lines typed here go to every client
    python selectors_loop.py --check

On Windows a loop waits for server.wait_handle, an event object, instead.
"""

import os
import selectors
import sys
import threading
from multiprocessing.connection import Client

import npipes


def serve(server, lines):
    """Until `lines`, a file, ends."""
    with server, selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        selector.register(lines, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is server:
                    server.dispatch()
                elif line := lines.readline():
                    server.broadcast(line.rstrip().encode())
                else:
                    return


def make_server(name="demo"):
    return npipes.Server(name, on_message=lambda conn, data, cookie: conn.write(data))


def check():
    server = make_server(f"loop-{os.getpid()}")
    reading, writing = os.pipe()
    failed = []

    def talk():
        with os.fdopen(writing, "w") as lines:
            try:
                with Client(server.address) as client:
                    client.send_bytes(b"hello")
                    assert client.recv_bytes() == b"hello"
                    print("typed here", file=lines, flush=True)
                    assert client.recv_bytes() == b"typed here"
            except Exception as error:
                failed.append(error)

    server.on_ready = threading.Thread(target=talk).start
    with os.fdopen(reading) as lines:
        serve(server, lines)
    assert not failed, failed


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        try:
            serve(make_server(*sys.argv[1:]), sys.stdin)
        except KeyboardInterrupt:
            pass
