"""The processes that kills.py kills: victims.py FUNCTION NAME NUMBER."""

import asyncio
import contextlib
import sys

import npipes
import npipes.aio

SIZES = [1, 100, 5000, 70_000, 400_000]
TIMEOUT = 20.0


def serve(name, number):
    """Answers each message with its own number and the message."""
    mark = b"%d " % number

    def answer(conn, data, cookie):
        with contextlib.suppress(npipes.PipeClosedError):
            conn.write(mark + data)

    free = bool(number % 2)
    with npipes.Server(name, free_threading_events=free, threads=2, on_message=answer) as server:
        server.run()


def visit(name, number):
    """One connection, of one kind of client."""
    [blocking_visit, flooding_visit, managed_visit, aio_visit][number % 4](name)


def blocking_visit(name):
    with npipes.connect(name, timeout=TIMEOUT) as client:
        for i in range(10**9):
            client.send_many([bytes(SIZES[(i + k) % 4]) for k in range(3)])
            for _ in range(3):
                client.recv_bytes()


def flooding_visit(name):
    """Never reads."""
    with npipes.connect(name, timeout=TIMEOUT) as client:
        for i in range(10**9):
            client.send_bytes(bytes(SIZES[i % len(SIZES)]))


def managed_visit(name):
    with npipes.ClientManager(
        on_connected=lambda conn: [conn.write(bytes(n)) for n in SIZES], on_message=lambda conn, data, cookie: conn.write(data)
    ) as manager:
        manager.connect(name)
        manager.run()


def aio_visit(name):
    async def main():
        async with npipes.aio.connect(name, timeout=TIMEOUT) as conn:
            for n in SIZES:
                await conn.send(bytes(n))
            async for message in conn:
                await conn.send(message)

    asyncio.run(main())


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
