"""npipes.aio: whoever is cancelled loses no message and doubles none."""

import asyncio
import contextlib
import random

import pytest
from aio_support import echo, echo_pair, until

import npipes
import npipes.aio

COUNT = 10_000


async def cancelled(task):
    """The result of a task that was cancelled, unless it was too late for that."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await task
    return None


def test_cancelling_recv_at_random_loses_no_message(loops, pipe_name):
    """Every message is accounted for, in order, whenever a wait for one is cancelled."""

    count = loops.scaled(COUNT)

    async def handler(conn):
        for i in range(count):
            await conn.send(b"%d" % i)
            if i % 7 == 0:
                await asyncio.sleep(0)
        await conn.wait_closed()

    async def main():
        order = random.Random(5)
        got = []
        cancels = 0
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            while len(got) < count:
                task = asyncio.create_task(conn.recv())
                for _ in range(order.randrange(4)):
                    await asyncio.sleep(0)
                message = await cancelled(task)
                cancels += 1
                if message is not None:
                    got.append(message)
        assert got == [b"%d" % i for i in range(count)]
        assert cancels >= count

    loops.run(main)


def test_recv_cancelled_by_timeouts_loses_no_message(loops, pipe_name):
    async def handler(conn):
        for i in range(100):
            await conn.send(b"%d" % i)
            await asyncio.sleep(0.001 * (i % 3))
        await conn.wait_closed()

    async def main():
        got = []
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            while len(got) < 100:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        got.append(await conn.recv())
        assert got == [b"%d" % i for i in range(100)]

    loops.run(main)


def test_one_of_several_that_wait_is_cancelled_after_it_was_woken(loops, pipe_name):
    """Its message goes to the next in line."""

    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            for _ in range(loops.scaled(200)):
                tasks = [asyncio.create_task(conn.recv()) for _ in range(3)]
                await asyncio.sleep(0)
                await conn.send(b"a")
                await conn.send(b"b")
                await asyncio.sleep(random.random() * 0.001)
                first = await cancelled(tasks[0])
                rest = [first] if first is not None else []
                if rest:
                    tasks[2].cancel()
                else:
                    rest.append(await tasks[2])
                rest.append(await tasks[1])
                assert sorted(rest) == [b"a", b"b"]
                await asyncio.wait(tasks)

    loops.run(main)


def test_a_cancelled_send_is_not_sent_and_all_others_are_sent_once(loops, pipe_name):
    count = loops.scaled(2000)
    received = []

    async def handler(conn):
        async for message in conn:
            received.append(message[:8])
            if len(received) % 50 == 0:
                await asyncio.sleep(0.001)

    async def main():
        order = random.Random(7)
        sent = []
        async with npipes.aio.serve(handler, pipe_name):
            async with npipes.aio.connect(pipe_name, write_high_water=100_000) as conn:

                async def send(i):
                    await conn.send((b"%08d" % i).ljust(40_000, b"."))
                    sent.append(b"%08d" % i)

                pending = []
                for i in range(count):
                    pending.append(asyncio.create_task(send(i)))
                    if order.random() < 0.3:
                        await asyncio.sleep(0)
                    if order.random() < 0.3:
                        await cancelled(pending.pop(order.randrange(len(pending))))
                    if len(pending) > 20:
                        await pending.pop(0)
                await asyncio.gather(*pending)
                assert count / 2 < len(sent) < count
                await until(lambda: len(received) == len(sent))
        assert received == sent

    loops.run(main)


def test_the_reply_of_a_cancelled_call_is_dropped_and_nobody_elses(loops, pipe_name):
    async def main():
        order = random.Random(11)
        async with echo_pair(pipe_name) as (_, conn):
            for i in range(loops.scaled(500)):
                calls = [asyncio.create_task(conn.call(b"%d %d" % (i, k))) for k in range(4)]
                for _ in range(order.randrange(3)):
                    await asyncio.sleep(0)
                late = order.randrange(4)
                result = await cancelled(calls[late])
                assert result in (None, b"%d %d" % (i, late))
                for k, call in enumerate(calls):
                    if k != late:
                        assert await call == b"%d %d" % (i, k)
            assert await conn.call(b"last") == b"last"

    loops.run(main)


def test_a_cancelled_connect_leaves_nothing(loops, pipe_name):
    async def main():
        for delay in (0, 0.001, 0.02):
            task = asyncio.ensure_future(npipes.aio.connect(pipe_name)._connected())
            await asyncio.sleep(delay)
            assert await cancelled(task) is None
        async with npipes.aio.serve(echo, pipe_name) as server:
            for turns in range(6):
                task = asyncio.ensure_future(npipes.aio.connect(pipe_name)._connected())
                for _ in range(turns):
                    await asyncio.sleep(0)
                conn = await cancelled(task)
                if conn is not None:
                    await conn.close()
            await until(lambda: not server.connections)

    loops.run(main)


def test_a_connect_that_is_cancelled_while_it_waits_for_a_place_takes_none(loops, pipe_name):
    async def main():
        async with npipes.aio.serve(echo, pipe_name, max_instances=1, listeners=1) as server:
            async with npipes.aio.connect(pipe_name) as first:
                assert await first.call(b"x") == b"x"
                for delay in (0, 0.001, 0.02):
                    waiting = asyncio.ensure_future(npipes.aio.connect(pipe_name, timeout=None)._connected())
                    await asyncio.sleep(delay)
                    conn = await cancelled(waiting)
                    if conn is not None:
                        await conn.close()
                assert await first.call(b"y") == b"y"
            async with npipes.aio.connect(pipe_name, timeout=20) as second:
                assert await second.call(b"z") == b"z"
            await until(lambda: not server.connections)

    loops.run(main)


def test_a_cancelled_handler_ends_its_connection(loops, pipe_name):
    tasks = []

    async def handler(conn):
        tasks.append(asyncio.current_task())
        await conn.recv()

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            await until(lambda: tasks)
            tasks[0].cancel()
            with pytest.raises(npipes.ConnectionClosed):
                await conn.recv()

    loops.run(main)


def test_waits_for_the_end_can_be_cancelled(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (server, conn):
            for wait in (conn.wait_closed, server.wait_closed, conn.drain):
                task = asyncio.ensure_future(wait())
                await asyncio.sleep(0)
                await cancelled(task)
            assert await conn.call(b"x") == b"x"

    loops.run(main)
