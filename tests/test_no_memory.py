"""Python's memory runs out while messages come: what cannot be delivered leaves no gap."""

import asyncio
import contextlib
import socket

import pytest
from support import TIMEOUT, eventually, frame, linux_only, raw_client, run_python

import npipes
import npipes.aio

_testcapi = pytest.importorskip("_testcapi", reason="this Python has no allocator that fails on demand")

MESSAGES = [b"%03d" % number for number in range(30)] + [bytes(3000), bytes(100_000)]
STREAM = b"".join(map(frame, MESSAGES))


class failing:
    """The n-th allocation of Python's from here on fails.  Leaving it needs none."""

    def __init__(self, allocation):
        self.allocation = allocation

    def __enter__(self):
        _testcapi.set_nomemory(self.allocation, self.allocation + 1)

    def __exit__(self, *_):
        _testcapi.remove_mem_hooks()


class Kept:
    """What a server's handlers got.  Messages are noted without an allocation."""

    def __init__(self, as_list):
        self.taken = [None] * len(MESSAGES)  # messages, or lists of them
        self.count = 0
        self.errors = []
        self.gone = []
        self.handlers = {
            "on_messages" if as_list else "on_message": self.take,
            "on_error": lambda conn, error: self.errors.append(error),
            "on_disconnected": lambda conn: self.gone.append(conn.error),
        }

    def take(self, conn, data, cookie=None):
        self.taken[self.count] = data
        self.count += 1

    def messages(self):
        taken = self.taken[: self.count]
        return [message for part in taken for message in (part if isinstance(part, list) else [part])]


@linux_only
@pytest.mark.parametrize("as_list", [False, True], ids=["on_message", "on_messages"])
def test_a_server_ends_a_connection_that_lost_a_message(pipe_name, as_list):
    ended = 0
    for allocation in range(2 * len(MESSAGES)):
        kept = Kept(as_list)
        with npipes.Server(pipe_name, **kept.handlers) as server, raw_client(server) as peer:
            assert eventually(lambda: server.dispatch() == 0 and server.connections)
            peer.sendall(STREAM)
            with contextlib.suppress(MemoryError), failing(allocation):  # one of the call's own harms nothing
                server.dispatch(timeout=TIMEOUT)
            assert eventually(lambda: server.dispatch() == 0 and (kept.gone or kept.messages() == MESSAGES))
        messages = kept.messages()
        assert messages == MESSAGES[: len(messages)]
        if len(messages) < len(MESSAGES):
            assert isinstance(kept.gone[0], MemoryError)
            assert kept.errors == [kept.gone[0]]
            ended += 1
        else:
            assert not kept.errors
    assert ended >= len(MESSAGES) - 3  # a few are made of memory that Python has at hand


async def received(allocation, pipe_name):
    """What a handler got, and how it ended, when that allocation fails while the messages come."""
    began, come, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    got, told = [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

    async def handler(conn):
        began.set()
        await come.wait()
        try:
            while len(got) < len(MESSAGES):
                got.append(await conn.recv())
        except MemoryError as error:
            told.append(error)
        over.set()

    def take():
        with failing(allocation):
            server._server._drive()
        come.set()

    async with npipes.aio.serve(handler, pipe_name) as server, asyncio.timeout(TIMEOUT):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(server.address)
            await began.wait()
            peer.sendall(STREAM)
            asyncio.get_running_loop().call_soon(take)  # before the loop sees that there is something
            await over.wait()
    return got, told


@linux_only
def test_a_loop_ends_a_connection_that_lost_a_message(pipe_name):
    for allocation in range(1000):
        got, told = asyncio.run(received(allocation, pipe_name))
        assert got == MESSAGES[: len(got)]
        if len(got) == len(MESSAGES):
            break
        # The loop, by the drive that failed, and the task that waited for the message.
        assert [type(error) for error in told] == [MemoryError, MemoryError]
    assert len(got) == len(MESSAGES) and not told
    assert allocation >= len(MESSAGES)


# ---- blocking calls --------------------------------------------------------


@pytest.fixture
def talker(serve):
    """A server that sends every client all of the messages, and no more."""

    def greet(conn):
        for message in MESSAGES:
            conn.write(message)

    return serve(on_connected=greet)


def receive_bytes(client, window):
    with window:
        message = client.recv_bytes(timeout=TIMEOUT)
    return [message]


def receive_into(client, window):
    buffer = bytearray(len(MESSAGES[-1]))
    with window:
        size = client.recv_bytes_into(buffer, timeout=TIMEOUT)
    return [bytes(buffer[:size])]


def receive_many(client, window):
    with window:
        return client.recv_many(timeout=TIMEOUT)


def receive_rest(client, receive, got):
    while len(got) < len(MESSAGES):
        got += receive(client, contextlib.nullcontext())


@pytest.mark.parametrize("receive", [receive_bytes, receive_into])
def test_a_client_has_its_message_at_the_next_call(talker, receive):
    failed = 0
    for allocation in range(20):
        with npipes.connect(talker.name) as client:
            assert client.poll(TIMEOUT)
            got = []
            try:
                got = receive(client, failing(allocation))
            except MemoryError:
                failed += 1
            receive_rest(client, receive, got)
        assert got == MESSAGES
    assert failed


@linux_only  # Windows' pipes give one message at a time
def test_a_client_that_lost_one_of_many_receives_none_behind_it(talker):
    ended = 0
    for allocation in range(2 * len(MESSAGES)):
        with npipes.connect(talker.name) as client:
            assert client.poll(TIMEOUT)
            got = []
            with contextlib.suppress(MemoryError):
                got = receive_many(client, failing(allocation))
            try:
                receive_rest(client, receive_many, got)
            except MemoryError:
                ended += 1
                with pytest.raises(MemoryError):  # and so it stays
                    client.recv_bytes(timeout=TIMEOUT)
        assert got == MESSAGES[: len(got)]
    assert ended > 10


FIRST_SEND = """if True:
    import sys, _testcapi, npipes
    with npipes.connect(sys.argv[1]) as client:
        try:
            _testcapi.set_nomemory(int(sys.argv[2]), int(sys.argv[2]) + 1)
            client.send(1)
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        client.send(2)  # what was not found is looked for again
"""


def test_what_is_imported_when_it_is_first_needed_may_fail(serve):
    got = []
    server = serve(on_message=lambda conn, data, cookie: got.append(npipes.loads(data)))
    for allocation in range(6):
        run_python(FIRST_SEND, server.address, str(allocation))
        assert eventually(lambda: got and got.pop() == 2)
