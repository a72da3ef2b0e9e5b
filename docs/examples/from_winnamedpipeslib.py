"""Requests and answers as PropertyBags, with a cookie for each: NamedPipeServer and NamedPipeClientManager here.

python from_winnamedpipeslib.py --check
"""

import os
import queue

import npipes


def make_server(name):
    server = npipes.Server(name, threads=2, free_threading_events=True)

    @server.event
    def on_message(conn, data, cookie):
        request = npipes.PropertyBag(data)
        answer = npipes.PropertyBag()
        answer["Cookie"] = request["Cookie"]
        answer["Sum"] = request.read_property("A", 0) + request.read_property("B", 0)
        conn.write(answer.contents)

    return server


class Asker(npipes.ClientManager):
    """Puts the answers into a queue, as (cookie, sum)."""

    def __init__(self):
        super().__init__(free_threading_events=True)
        self.answers = queue.Queue()

    def ask(self, conn, cookie, **numbers):
        request = npipes.PropertyBag()
        request["Cookie"] = cookie
        for name, value in numbers.items():
            request.write_property(name, value, 0)
        conn.write(request.contents)

    def on_connected(self, conn):
        self.ask(conn, 1, A=2, B=3)
        self.ask(conn, 2, A=10)

    def on_message(self, conn, data, cookie):
        answer = npipes.PropertyBag(data)
        self.answers.put((answer["Cookie"], answer["Sum"]))


def check():
    name = f"bags-{os.getpid()}"
    with make_server(name), Asker() as asker:
        asker.connect(name)
        assert asker.answers.get(timeout=20) == (1, 5)
        assert asker.answers.get(timeout=20) == (2, 10)


if __name__ == "__main__":
    check()
