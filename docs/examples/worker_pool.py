"""Work for at most four clients at once, each on a thread of its own; further clients wait.

    python worker_pool.py [NAME]
    python worker_pool.py --check

A message is any bytes; the answer is their SHA-256 in hexadecimal digits.
"""

import hashlib
import os
import sys
import threading
from multiprocessing.connection import Client

import npipes

WORKERS = 4


def make_server(name="demo"):
    def on_message(conn, data, cookie):
        # May take as long as it likes: only this thread's clients wait for it.
        conn.write(hashlib.sha256(data).hexdigest().encode())

    return npipes.Server(
        name,
        threads=WORKERS,
        max_instances=WORKERS,
        free_threading_events=True,
        on_message=on_message,
    )


def check():
    def ask(client, data):
        client.send_bytes(data)
        assert client.recv_bytes() == hashlib.sha256(data).hexdigest().encode()

    answered = threading.Event()

    def fifth():
        with Client(server.address) as client:
            ask(client, b"from the fifth")
            answered.set()

    with make_server(f"pool-{os.getpid()}") as server:
        clients = [Client(server.address) for _ in range(WORKERS)]
        for number, client in enumerate(clients):
            ask(client, b"%d" % number)
        thread = threading.Thread(target=fifth)
        thread.start()
        assert not answered.wait(0.2), "the fifth client was served beside four others"
        clients.pop().close()
        assert answered.wait(10), "the fifth client was not served when a place was free"
        thread.join()
        for client in clients:
            client.close()


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        try:
            with make_server(*sys.argv[1:]) as server:
                print("works on", server.address)
                server.run()  # only waits: the events run on the workers
        except KeyboardInterrupt:
            pass
