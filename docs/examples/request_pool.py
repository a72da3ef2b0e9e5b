"""Eight threads ask one server, each over a connection of its own.

python request_pool.py NAME TEXT ...    asks the server NAME for every TEXT
python request_pool.py --check
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import npipes

THREADS = 8


class Pool:
    """Connections that are made when a thread first needs one, and closed together."""

    def __init__(self, name):
        self._name = name
        self._local = threading.local()
        self._clients = []
        self._threads = ThreadPoolExecutor(THREADS)

    def _ask(self, request):
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = npipes.connect(self._name)
            self._clients.append(client)
        return client.call(request, timeout=30)

    def ask(self, requests):
        return self._threads.map(self._ask, requests)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._threads.shutdown()
        for client in self._clients:
            client.close()


def check():
    name = f"pool-{os.getpid()}"
    server = npipes.Server(name, free_threading_events=True, threads=2)
    server.on_message = lambda conn, data, cookie: conn.write(data[::-1])
    requests = [b"request %d" % number for number in range(500)]
    with server, Pool(name) as pool:
        assert list(pool.ask(requests)) == [request[::-1] for request in requests]


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        with Pool(sys.argv[1]) as pool:
            for answer in pool.ask(text.encode() for text in sys.argv[2:]):
                print(answer.decode(errors="replace"))
