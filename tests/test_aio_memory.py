"""Python's memory runs out while a loop's connection receives."""

import asyncio
import socket

import pytest
from support import TIMEOUT, frame, linux_only

import npipes.aio

_testcapi = pytest.importorskip("_testcapi", reason="this Python has no allocator that fails on demand")

MESSAGES = [b"%03d" % number for number in range(30)] + [bytes(3000), bytes(100_000)]
STREAM = b"".join(map(frame, MESSAGES))


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
        try:
            _testcapi.set_nomemory(allocation, allocation + 1)
            server._server._drive()
        finally:
            _testcapi.remove_mem_hooks()
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
def test_a_message_without_memory_leaves_no_gap(pipe_name):
    for allocation in range(1000):
        got, told = asyncio.run(received(allocation, pipe_name))
        assert got == MESSAGES[: len(got)]
        if len(got) == len(MESSAGES):
            break
        # The loop, by the drive that failed, and the task that waited for the message.
        assert [type(error) for error in told] == [MemoryError, MemoryError]
    assert len(got) == len(MESSAGES) and not told
    assert allocation >= len(MESSAGES)
