"""Ends that hostile peers meet, all with the same interface, and how round trips beside them are measured.

An end has connections to peers that the test plays by hand, as raw sockets, and one to a peer that is good:

    peer()          a new connection of the end's: the raw socket at its other side
    exchange(data)  a round trip with the good peer
    errors(count)   why so many connections to raw peers have ended; None: an orderly end
    forget_errors() errors() begins anew
    open_count()    the connections to raw peers that the end still has
"""

import asyncio
import contextlib
import socket
import statistics
import threading
import time

from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
    in_thread,
    reply,
    running,
)

import npipes
import npipes.aio

MESSAGE_TIMEOUT = 0.3


class ServerEnd:
    def __init__(self, name, stack, **options):
        self._log, self._stack = Log(), stack
        options = {"on_message": reply, "message_timeout": MESSAGE_TIMEOUT, "free_threading_events": True} | options
        self.server = stack.enter_context(
            running(npipes.Server(name, on_error=lambda *args: None, on_disconnected=self._on_disconnected, **options))
        )
        self.address = self.server.address
        self._good = stack.enter_context(Client(self.server))
        self.exchange(b"hello")

    def _on_disconnected(self, conn):
        self._log.add("end", conn.error)

    def peer(self):
        return _connected(self.server.address, self._stack)

    def exchange(self, data):
        return self._good.request(data)

    def errors(self, count):
        return [error for (error,) in self._log.wait("end", count)]

    def forget_errors(self):
        self._log.clear()

    def open_count(self):
        return self.server.stats.connections - 1


class ManagerEnd:
    def __init__(self, name, stack, **options):
        self._log, self._stack = Log(), stack
        self._listener, self._good_server = _listening(name, stack), f"{name}-good"
        stack.enter_context(running(npipes.Server(self._good_server, free_threading_events=True, on_message=echo)))
        self._came = threading.Semaphore(0)
        # A client reads on however much it has yet to send: who sets the limit reckons with it.
        self._refusals = [npipes.QueueFullError] if "max_pending_bytes" in options else []
        options = {"message_timeout": MESSAGE_TIMEOUT, "free_threading_events": True} | options
        self.manager = stack.enter_context(
            running(
                npipes.ClientManager(
                    on_message=self._on_message, on_error=lambda *args: None, on_disconnected=self._on_disconnected, **options
                )
            )
        )
        self._good = self.manager.connect(self._good_server)
        assert eventually(lambda: self._good.is_connected)

    def _on_message(self, conn, data, cookie):
        if conn is self._good:
            self._came.release()
        else:
            with contextlib.suppress(*self._refusals):
                reply(conn, data, cookie)

    def peer(self):
        self.manager.connect(self._listener.getsockname())
        return _accepted(self._listener, self._stack)

    def exchange(self, data):
        self._good.write(data)
        assert self._came.acquire(timeout=TIMEOUT)
        return data

    _on_disconnected = ServerEnd._on_disconnected
    errors, forget_errors = ServerEnd.errors, ServerEnd.forget_errors

    def open_count(self):
        return self.manager.stats.connections - 1


class BlockingEnd:
    """Each of its Clients has a thread that receives until an error comes."""

    def __init__(self, name, stack):
        self._log, self._stack, self._clients = Log(), stack, 0
        server = stack.enter_context(running(npipes.Server(f"{name}-good", free_threading_events=True, on_message=echo)))
        self._good = stack.enter_context(npipes.connect(server.address))
        with contextlib.suppress(npipes.PipeTimeoutError):  # the first wait makes what all others use
            self._good.recv_bytes(timeout=0.01)
        self._open(name)

    def _serve(self, client):
        self._clients += 1
        thread = in_thread(self._receive, client)
        self._stack.callback(thread.join, TIMEOUT)

    def _receive(self, client):
        error = None
        with client:
            try:
                while True:
                    client.recv_bytes(timeout=MESSAGE_TIMEOUT)
            except npipes.ConnectionClosed:
                pass
            except npipes.PipeError as e:
                error = e
        self._log.add("end", error)

    def exchange(self, data):
        return self._good.call(data, timeout=TIMEOUT)

    errors = ServerEnd.errors

    def forget_errors(self):
        self._clients -= self._log.clear()

    def open_count(self):
        return self._clients - len(self._log.of("end"))


class ClientEnd(BlockingEnd):
    def _open(self, name):
        self._listener = _listening(name, self._stack)

    def peer(self):
        self._serve(npipes.connect(self._listener.getsockname()))
        return _accepted(self._listener, self._stack)


class ListenerEnd(BlockingEnd):
    def _open(self, name):
        self._listener = self._stack.enter_context(npipes.Listener(name))
        self.address = self._listener.address

    def peer(self):
        peer = _connected(self._listener.address, self._stack)
        self._serve(self._listener.accept(timeout=TIMEOUT))
        return peer


class AioEnd:
    """Everything of the end's is on an event loop in a thread of its own."""

    def __init__(self, name, stack, **options):
        self._log, self._stack, self._open = Log(), stack, 0
        self._options = {"message_timeout": MESSAGE_TIMEOUT} | options
        self._loop = asyncio.new_event_loop()
        thread = in_thread(self._loop.run_forever)
        stack.callback(self._loop.close)
        stack.callback(thread.join, TIMEOUT)
        stack.callback(self._loop.call_soon_threadsafe, self._loop.stop)
        self._begin(name)
        self.exchange(b"hello")

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT)

    def _enter(self, manager):
        value = self._wait(manager.__aenter__())
        self._stack.callback(lambda: self._wait(manager.__aexit__(None, None, None)))
        return value

    async def _serve(self, conn):
        error, raw = None, True
        self._open += 1
        try:
            async for message in conn:
                if raw and message == b"hello":  # the good one
                    raw = False
                    self._open -= 1
                await conn.send(message)
        except npipes.PipeError as e:
            error = e
        if raw:
            self._open -= 1
            self._log.add("end", error)

    errors, forget_errors = ServerEnd.errors, ServerEnd.forget_errors

    def open_count(self):
        return self._open


class AioServerEnd(AioEnd):
    def _begin(self, name):
        server = self._enter(npipes.aio.serve(self._serve, name, **self._options))
        self.address = server.address
        self._good = self._stack.enter_context(npipes.connect(name))

    def peer(self):
        return _connected(self.address, self._stack)

    def exchange(self, data):
        return self._good.call(data, timeout=TIMEOUT)


class AioClientEnd(AioEnd):
    def _begin(self, name):
        self._listener = _listening(name, self._stack)
        server = self._stack.enter_context(running(npipes.Server(f"{name}-good", free_threading_events=True, on_message=echo)))
        self._good = self._enter(npipes.aio.connect(server.address))

    def peer(self):
        self._loop.call_soon_threadsafe(self._loop.create_task, self._receive())
        return _accepted(self._listener, self._stack)

    async def _receive(self):
        async with npipes.aio.connect(self._listener.getsockname(), **self._options) as conn:
            await self._serve(conn)

    def exchange(self, data):
        async def there_and_back():
            await self._good.send(data)
            return await self._good.recv()

        return self._wait(there_and_back())


ENDS = {
    "server": ServerEnd,
    "manager": ManagerEnd,
    "client": ClientEnd,
    "listener": ListenerEnd,
    "aio server": AioServerEnd,
    "aio client": AioClientEnd,
}


def _connected(address, stack):
    peer = stack.enter_context(socket.socket(socket.AF_UNIX))
    peer.settimeout(TIMEOUT)
    peer.connect(address)
    return peer


def _listening(name, stack):
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.settimeout(TIMEOUT)
    listener.bind(npipes.address(name))
    listener.listen(100)
    return listener


def _accepted(listener, stack):
    peer, _ = listener.accept()
    peer.settimeout(TIMEOUT)
    return stack.enter_context(peer)


# ---- measuring ------------------------------------------------------------


def assert_keeps_its_round_trips(exchange, disturb, rounds=40, each=40):
    """Round trips while disturb() is entered take at most twice as long as without, by their medians.  The two are
    measured in turns, so that a busy machine slows both alike; and each over a longer time than what disturb() has
    begun takes to be worked off.  A measurement that failed is repeated."""
    for _ in range(3):
        alone, beside = [], []
        for _ in range(rounds):
            alone += _times(exchange, each)
            with disturb():
                beside += _times(exchange, each)
        if statistics.median(beside) <= 2 * statistics.median(alone):
            return
    raise AssertionError(
        f"a round trip takes {statistics.median(alone) * 1e6:.0f} us, and "
        f"{statistics.median(beside) * 1e6:.0f} us beside the peer"
    )


def _times(exchange, count):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        exchange(b"x" * 64)
        times.append(time.perf_counter() - begin)
    return times


class Flood:
    """A peer that sends as much as the system takes, and reads nothing."""

    def __init__(self, peer, data):
        self._peer, self._data, self._at = peer, data, 0
        peer.setblocking(False)

    @contextlib.contextmanager
    def going_on(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self._at = (self._at + self._peer.send(self._data[self._at :])) % len(self._data)
        yield
