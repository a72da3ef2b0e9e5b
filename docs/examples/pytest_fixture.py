"""A server for the tests of a program that is a client: pytest docs/examples/pytest_fixture.py"""

import itertools
import os
import queue
from multiprocessing.connection import Client

import npipes
import pytest


class Recorder(npipes.Server):
    """Keeps what clients send, and answers with `replies` in their order."""

    def __init__(self, name):
        super().__init__(name, free_threading_events=True)
        self.received = queue.Queue()
        self.replies = queue.Queue()

    def on_message(self, conn, data, cookie):
        self.received.put(data)
        if not self.replies.empty():
            conn.write(self.replies.get())


numbers = itertools.count()


@pytest.fixture
def server():
    # A name of its own for each test: tests may run side by side.
    with Recorder(f"test-{os.getpid()}-{next(numbers)}") as server:
        yield server


# ---- the program under test ----------------------------------------------


def greet(address):
    with Client(address) as connection:
        connection.send_bytes(b"hello")
        if not connection.poll(1):
            return "no answer"
        return connection.recv_bytes().decode()


# ---- its tests -----------------------------------------------------------


def test_greet_returns_the_answer(server):
    server.replies.put(b"welcome")
    assert greet(server.address) == "welcome"
    assert server.received.get(timeout=5) == b"hello"


def test_greet_notices_that_no_answer_comes(server):
    assert greet(server.address) == "no answer"


def test_greet_sees_a_server_that_hangs_up(server):
    server.on_message = lambda conn, data, cookie: conn.close()
    with pytest.raises((EOFError, OSError)):
        greet(server.address)
