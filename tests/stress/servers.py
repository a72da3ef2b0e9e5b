"""The servers of a soak: they answer with what they got, broadcast, and count."""

import asyncio
import random
import threading

from messages import Numbers, Wrong, is_end, make

import npipes
import npipes.aio

BROADCAST_EVERY = 0.02
PATIENCE = 60


class EventServer:
    """A Server whose every event is counted."""

    def __init__(self, soak, name, **options):
        self.name = name
        self._soak = soak
        self._free = options.get("free_threading_events", False)
        self._lock = threading.Lock()
        self.connected = self.disconnected = 0
        self._server = npipes.Server(
            name,
            on_connected=self._on_connected,
            on_message=self._on_message,
            on_sent=self._on_sent,
            on_disconnected=self._on_disconnected,
            on_error=self._on_error,
            **options,
        )
        self._threads = [threading.Thread(target=self._broadcast)]
        if not self._free:
            self._threads.append(threading.Thread(target=self._server.run))
        self._stop = threading.Event()

    def __enter__(self):
        self._server.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._server.stop()
        for thread in self._threads:
            thread.join(PATIENCE)

    def __str__(self):
        return f"server {self.name}"

    def _broadcast(self):
        rng = random.Random(self.name)
        number = 0
        while not self._stop.wait(BROADCAST_EVERY):
            if self._server.broadcast(make(b"B", number, rng, rng.randint(0, 2000)), "broadcast") < 0:
                raise Wrong("a broadcast went to fewer than nobody")
            number += 1

    # ---- events

    def _on_connected(self, conn):
        conn.custom_data = State()
        with self._lock:
            self.connected += 1

    def _on_message(self, conn, data, cookie):
        state = conn.custom_data
        try:
            state.numbers.check(data)
            if state.over:
                raise Wrong("a message after on_disconnected")
        except Exception as error:
            self._soak.fail(self, repr(error))
            conn.close()
            return
        try:
            conn.write(data, state.accepted)
            state.accepted += 1
        except npipes.PipeError as error:
            if not is_end(error):
                self._soak.fail(self, repr(error))

    def _on_sent(self, conn, cookie):
        state = conn.custom_data
        if cookie == "broadcast":
            return
        if cookie != state.sent or state.returned or state.over:
            self._soak.fail(self, f"on_sent for {cookie!r} after {state.sent}")
        state.sent += 1

    def _on_error(self, conn, error):
        if conn is None or not is_end(error):
            self._soak.fail(self, f"{conn}: {error!r}")
        elif isinstance(error.cookie, int):
            conn.custom_data.returned += 1

    def _on_disconnected(self, conn):
        state = conn.custom_data
        if state.over:
            self._soak.fail(self, "on_disconnected came twice")
        state.over = True
        if state.accepted != state.sent + state.returned:
            self._soak.fail(self, f"{state.accepted} writes, {state.sent} sent, {state.returned} returned")
        self._soak.count(answers=state.sent, answers_returned=state.returned)
        with self._lock:
            self.disconnected += 1

    def check(self):
        """After all clients have left, or while the last of them do."""
        self._server.stop()
        stats = self._server.stats
        if not self.connected == self.disconnected == stats.connections_total or stats.connections:
            self._soak.fail(self, f"{self.connected} on_connected, {self.disconnected} on_disconnected, {stats}")
        self._soak.count(connections=self.connected)


class State:
    """What a server knows of a connection."""

    def __init__(self):
        self.numbers = Numbers()
        self.accepted = self.sent = self.returned = 0
        self.over = False


class AioServer:
    """A server of npipes.aio on a loop in a thread of its own."""

    def __init__(self, soak, name):
        self.name = name
        self._soak = soak
        self._handlers = [0, 0]  # begun, ended
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self):
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise Wrong("the loop does not start")
        return self

    def __exit__(self, *error):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)

    def __str__(self):
        return f"server {self.name}"

    async def _main(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with npipes.aio.serve(self._handle, self.name) as server:
            self._ready.set()
            broadcasting = asyncio.create_task(self._broadcast(server))
            await self._over.wait()
            broadcasting.cancel()

    async def _broadcast(self, server):
        rng = random.Random(self.name)
        number = 0
        while True:
            await asyncio.sleep(BROADCAST_EVERY)
            server.broadcast(make(b"B", number, rng, rng.randint(0, 2000)))
            number += 1

    async def _handle(self, conn):
        numbers = Numbers()
        self._handlers[0] += 1
        try:
            async for message in conn:
                numbers.check(message)
                await conn.send(message)
        except npipes.PipeError as error:
            if not is_end(error):
                self._soak.fail(self, repr(error))
        except Wrong as error:
            self._soak.fail(self, repr(error))
        finally:
            self._handlers[1] += 1
            self._soak.count(answers=numbers.answers)

    def check(self):
        self.__exit__()
        begun, ended = self._handlers
        if self._thread.is_alive() or begun != ended:
            self._soak.fail(self, f"{begun} handlers begun, {ended} ended")
        self._soak.count(connections=begun)
