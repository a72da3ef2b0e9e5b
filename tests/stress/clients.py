"""The clients of a soak: each has one server after the other for a while, and leaves it one way or another."""

import asyncio
import queue

from messages import Numbers, Wrong, is_end, make

import npipes
import npipes.aio

PATIENCE = 90  # for anything, on a machine that is very busy
WINDOW = 8


class Client:
    def __init__(self, soak, servers, rng):
        self.soak, self.servers, self.rng = soak, servers, rng
        self.who = f"{type(self).__name__} {id(self) % 10007}"

    def __str__(self):
        return self.who

    def plan(self):
        """Bursts of messages, small enough that nobody has to read while the other writes."""
        number = 0
        for _ in range(self.rng.randint(0, 25)):
            burst = self.rng.randint(1, WINDOW)
            yield [make(b"M", number + i, self.rng) for i in range(burst)]
            number += burst

    def leaves_now(self):
        return self.rng.random() < 0.02


class BlockingClient(Client):
    def run(self):
        while not self.soak.is_over():
            server = self.rng.choice(self.servers)
            try:
                with npipes.connect(server.name, timeout=PATIENCE) as client:
                    self._visit(client)
            except npipes.PipeError as error:
                if not is_end(error):
                    raise

    def _visit(self, client):
        numbers = Numbers()
        for burst in self.plan():
            answered = numbers.answers
            for message in burst:
                client.send_bytes(message, timeout=PATIENCE)
                # One answer for each, so that neither side's queue stops the other.
                if len(message) > 50_000:
                    self._receive(client, numbers, answered + burst.index(message) + 1)
            if self.leaves_now():
                return
            self._receive(client, numbers, answered + len(burst))
            self.soak.count(blocking_messages=len(burst))

    def _receive(self, client, numbers, count):
        while numbers.answers < count:
            numbers.check(client.recv_bytes(timeout=PATIENCE))


class ManagerClient(Client):
    """Several connections at once, of one manager."""

    def run(self):
        while not self.soak.is_over():
            self._events = queue.SimpleQueue()
            manager = npipes.ClientManager(
                free_threading_events=True,
                on_connected=self._note("connected"),
                on_message=self._note("message"),
                on_disconnected=self._note("disconnected"),
                on_error=self._note("error"),
            )
            with manager:
                for _ in range(self.rng.randint(1, 3)):
                    self._visit_some(manager)
            left = [self._events.get() for _ in range(self._events.qsize())]
            if left:
                raise Wrong(f"events after the end: {left[:3]}")

    def _note(self, name):
        return lambda *args: self._events.put((name, *args))

    def _visit_some(self, manager):
        visits = {}
        for _ in range(self.rng.randint(1, 3)):
            conn = manager.connect(self.rng.choice(self.servers).name, timeout=PATIENCE)
            visits[conn] = Visit(self.plan())
        while visits:
            name, conn, *args = self._events.get(timeout=PATIENCE)
            visit = visits[conn]
            if name == "error":
                # One that leaves reads no more, so that the server may not take what it had yet to send.
                if not (is_end(args[0]) or visit.left and isinstance(args[0], npipes.PipeTimeoutError)):
                    raise args[0]
                if not visit.connected:  # the only event of one that never was
                    del visits[conn]
            elif name == "connected":
                visit.connected += 1
                self._go_on(conn, visit)
            elif name == "disconnected":
                if visit.connected != 1:
                    raise Wrong(f"on_disconnected after {visit.connected} on_connected")
                del visits[conn]
            elif visit.numbers.check(args[0]) == b"M" and visit.numbers.answers == visit.expected:
                self._go_on(conn, visit)

    def _go_on(self, conn, visit):
        burst = next(visit.plan, None)
        if burst is None or self.leaves_now():
            self._leave(conn, visit)
            return
        visit.expected += len(burst)
        try:
            for message in burst:
                conn.write(message)
        except npipes.PipeError as error:
            if not is_end(error):
                raise
            return
        self.soak.count(manager_messages=len(burst))
        if self.leaves_now():
            self._leave(conn, visit)

    def _leave(self, conn, visit):
        visit.left = True
        conn.close()


class Visit:
    def __init__(self, plan):
        self.plan, self.numbers = plan, Numbers()
        self.connected = self.expected = 0
        self.left = False


class AioClient(Client):
    """Sends while it receives, and gives up waiting now and then."""

    def run(self):
        while not self.soak.is_over():
            asyncio.run(self._visit_some())

    async def _visit_some(self):
        async with asyncio.TaskGroup() as group:
            for _ in range(self.rng.randint(1, 4)):
                group.create_task(self._visit(self.rng.choice(self.servers)))

    async def _visit(self, server):
        try:
            async with asyncio.timeout(PATIENCE), npipes.aio.connect(server.name, timeout=PATIENCE) as conn:
                numbers, sent = Numbers(), 0
                for burst in self.plan():
                    sending = asyncio.create_task(self._send(conn, burst))
                    sent += len(burst)
                    while numbers.answers < sent:
                        await self._receive(conn, numbers)
                    await sending
                    self.soak.count(aio_messages=len(burst))
                    if self.leaves_now():
                        conn.send_nowait(make(b"M", sent, self.rng))
                        return
        except npipes.PipeError as error:
            if not is_end(error):
                raise

    async def _send(self, conn, burst):
        for message in burst:
            await conn.send(message)

    async def _receive(self, conn, numbers):
        try:
            async with asyncio.timeout(0.001 if self.rng.random() < 0.1 else None):
                numbers.check(await conn.recv())
        except TimeoutError:
            pass
