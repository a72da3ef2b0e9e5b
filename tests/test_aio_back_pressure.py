"""npipes.aio: who is slow slows its peer, and nobody else."""

import asyncio

import pytest
from aio_support import echo, in_thread, until
from support import TIMEOUT, WINDOWS, Client, resident_bytes

import npipes
import npipes.aio

MIB = 1 << 20


def test_a_slow_handler_stops_its_peers_sends(loops, pipe_name):
    go_on = asyncio.Event()
    received = []

    async def handler(conn):
        await go_on.wait()
        async for message in conn:
            received.append(len(message))

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            sent = 0

            async def feed():
                nonlocal sent
                for _ in range(400):
                    await conn.send(bytes(100_000))
                    sent += 1

            feeding = asyncio.create_task(feed())
            before = -1
            while sent != before:  # until it stands
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 100, "40 MB are on their way to somebody who reads nothing"
            go_on.set()
            await feeding
            await until(lambda: len(received) == 400)

    loops.run(main)


def test_memory_stays_flat_while_a_handler_is_slow(loops, pipe_name):
    if WINDOWS:
        pytest.skip("resident memory is read from /proc")
    total = 0

    async def handler(conn):
        nonlocal total
        async for message in conn:
            total += len(message)
            if total % (4 * MIB) == 0:
                await asyncio.sleep(0.002)

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            message = bytes(MIB // 4)
            await conn.send(message)
            before = resident_bytes()
            for _ in range(799):
                await conn.send(message)
            await until(lambda: total == 200 * MIB)
            assert resident_bytes() - before < 40 * MIB

    loops.run(main)


def test_a_slow_reader_makes_send_wait_and_delays_nobody_else(loops, pipe_name):
    blocked = asyncio.Event()

    async def handler(conn):
        if await conn.recv() == b"flood":
            with pytest.raises(npipes.PipeError):
                while True:
                    task = asyncio.ensure_future(conn.send(bytes(200_000)))
                    done, _ = await asyncio.wait([task], timeout=0.2)
                    if not done:
                        blocked.set()
                        assert MIB // 4 < conn.pending_bytes < 2 * MIB
                    await task
        else:
            await echo(conn)

    async def main():
        async with npipes.aio.serve(handler, pipe_name) as server:
            slow = await in_thread(Client, server.address)
            slow.send(b"flood")
            await asyncio.wait_for(blocked.wait(), 20)
            async with npipes.aio.connect(pipe_name) as other:
                await other.send(b"hello")
                async with asyncio.timeout(TIMEOUT):  # the slow one never reads
                    for _ in range(loops.scaled(200)):
                        assert await other.call(b"x") == b"x"
            slow.close()
            await until(lambda: not server.connections)

    loops.run(main)


def test_send_nowait_has_a_limit_and_drain_waits(loops, pipe_name):
    go_on = asyncio.Event()

    async def handler(conn):
        await go_on.wait()
        async for _ in conn:
            pass

    async def main():
        async with npipes.aio.serve(handler, pipe_name):
            async with npipes.aio.connect(pipe_name, max_pending_bytes=8 * MIB, max_message_size=MIB) as conn:
                with pytest.raises(npipes.QueueFullError, match="max_pending_bytes"):
                    for _ in range(200):
                        conn.send_nowait(bytes(500_000))
                draining = asyncio.ensure_future(conn.drain())
                await asyncio.sleep(0.05)
                assert not draining.done() and conn.pending_bytes > MIB
                go_on.set()
                await draining
                assert conn.pending_bytes <= MIB
                await conn.drain()

    loops.run(main)


def test_sends_that_wait_keep_their_order(loops, pipe_name):
    received = []

    async def handler(conn):
        await asyncio.sleep(0.05)
        async for message in conn:
            received.append(int(message[:6]))

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            async with asyncio.TaskGroup() as group:
                for i in range(100):
                    group.create_task(conn.send((b"%06d" % i).ljust(100_000, b".")))
            await until(lambda: len(received) == 100)
            assert received == list(range(100))

    loops.run(main)


def test_without_a_high_water_mark_send_never_waits(loops, pipe_name):
    async def handler(conn):
        await conn.wait_closed()

    async def main():
        async with npipes.aio.serve(handler, pipe_name) as server:
            conn = await npipes.aio.connect(pipe_name, write_high_water=None)
            for _ in range(30):
                async with asyncio.timeout(TIMEOUT):
                    await conn.send(bytes(MIB))
            assert conn.pending_bytes > 20 * MIB
            await server.close(0.0)
            await conn.close()

    loops.run(main)


def test_two_that_flood_each_other_both_arrive(loops, pipe_name):
    async def flood(conn, count):
        async def feed():
            for _ in range(count):
                await conn.send(bytes(60_000))

        feeding = asyncio.create_task(feed())
        for _ in range(count):
            assert len(await conn.recv()) == 60_000
        await feeding

    done = asyncio.Event()

    async def handler(conn):
        await flood(conn, 300)
        done.set()
        await conn.wait_closed()

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            await flood(conn, 300)
            await done.wait()

    loops.run(main)
