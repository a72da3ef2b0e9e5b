"""Event loops of others wait for the server's descriptor or handle."""

import ctypes
import select
import selectors

import pytest
from support import (
    TIMEOUT,
    Client,
    eventually,
    linux_only,
    windows_only,
)

import npipes


@linux_only
@pytest.mark.parametrize("kind", ["DefaultSelector", "SelectSelector", "PollSelector"])
def test_a_selector_can_wait_for_events(server, kind):
    with getattr(selectors, kind)() as selector, Client(server) as client:
        selector.register(server, selectors.EVENT_READ)  # fileno()
        while selector.select(0.05):
            server.dispatch()
        for i in range(5):
            client.send(b"%d" % i)
            assert selector.select(TIMEOUT)
            assert server.dispatch() == 1
            assert client.receive() == b"%d" % i
            assert not selector.select(0)


@linux_only
def test_the_descriptor_stays_readable_until_all_is_dispatched(server):
    with Client(server) as client:
        client.send(b"x")
        assert eventually(lambda: server.stats.queued_events == 3)
        assert select.select([server], [], [], TIMEOUT)[0]
        assert select.select([server], [], [], 0)[0]
        server.dispatch()
        assert not select.select([server], [], [], 0)[0]


@linux_only
def test_the_descriptor_is_there_while_marshalled_events_run_only(pipe_name):
    server = npipes.Server(pipe_name)
    with pytest.raises(RuntimeError, match="not running"):
        server.fileno()
    with server:
        assert server.fileno() == server.fileno() > 2
    with pytest.raises(RuntimeError, match="not running"):
        server.fileno()
    server.free_threading_events = True
    with server, pytest.raises(RuntimeError, match="free_threading_events"):
        server.fileno()


@linux_only
def test_linux_has_no_wait_handle(server):
    assert server.wait_handle is None


@linux_only
def test_an_asyncio_loop_can_watch_the_descriptor(server):
    import asyncio

    async def main():
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(server.fileno(), server.dispatch)
        loop.add_reader(client.connection.fileno(), done.set)
        client.send(b"x")
        await asyncio.wait_for(done.wait(), TIMEOUT)
        loop.remove_reader(client.connection.fileno())
        loop.remove_reader(server.fileno())

    with Client(server) as client:
        asyncio.run(main())
        assert client.receive() == b"x"


@windows_only
def test_windows_can_wait_for_the_handle(server):
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    wait_object_0, wait_timeout = 0, 258

    def wait(milliseconds):
        return kernel32.WaitForSingleObject(server.wait_handle, milliseconds)

    with Client(server) as client:
        while wait(50) == wait_object_0:
            server.dispatch()
        for i in range(5):
            client.send(b"%d" % i)
            assert wait(int(TIMEOUT * 1000)) == wait_object_0
            assert server.dispatch() == 1
            assert client.receive() == b"%d" % i
            assert wait(0) == wait_timeout


@windows_only
def test_the_wait_handle_is_there_while_marshalled_events_run_only(pipe_name):
    server = npipes.Server(pipe_name)
    assert server.wait_handle is None
    with server:
        assert server.wait_handle > 0
        with pytest.raises(NotImplementedError, match="wait_handle"):
            server.fileno()
    assert server.wait_handle is None
    server.free_threading_events = True
    with server:
        assert server.wait_handle is None
