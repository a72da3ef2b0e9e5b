"""How a loop that can't watch the engine is woken."""

import asyncio

import pytest
from aio_support import ThreadedLoop, echo_pair, selector_loop, until
from support import WINDOWS

from npipes import _aio_wake

proactor_only = pytest.mark.skipif(not WINDOWS, reason="there is no Proactor")


def run(loop, work):
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work())


def count_wakes(loop):
    calls = []
    original = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args, **kwargs: (calls.append(args), original(*args, **kwargs))[1]
    return calls


async def exchange(conn, count):
    for i in range(count):
        await conn.send(b"%d" % i)
        assert await conn.recv() == b"%d" % i


def test_a_burst_takes_one_wake_up_a_batch_at_most(pipe_name):
    loop = selector_loop() if WINDOWS else ThreadedLoop()
    calls = count_wakes(loop)

    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            await exchange(conn, 1)
            before = len(calls)
            for i in range(1000):
                conn.send_nowait(b"%d" % i)
            assert [await conn.recv() for _ in range(1000)] == [b"%d" % i for i in range(1000)]
            # Two ends; under Windows a client's messages come one by one.
            assert 0 < len(calls) - before <= (2000 if WINDOWS else 1000)

    run(loop, main)


@proactor_only
def test_a_proactor_is_woken_without_its_self_pipe(pipe_name):
    loop = asyncio.ProactorEventLoop()
    calls = count_wakes(loop)

    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            await exchange(conn, 50)
        assert not calls

    run(loop, main)


@proactor_only
@pytest.mark.parametrize("debug", [False, True])
def test_nothing_stays_registered_with_a_proactor(pipe_name, debug):
    loop = asyncio.ProactorEventLoop()
    loop.set_debug(debug)
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context))

    def ours():
        return [entry for entry in loop._proactor._cache.values() if isinstance(entry[0], _aio_wake.Packets)]

    async def main():
        for _ in range(5):
            async with echo_pair(pipe_name) as (_, conn):
                await exchange(conn, 3)
                assert len(ours()) == 2
            await until(lambda: not ours())
        assert not told

    run(loop, main)


@pytest.mark.parametrize("proactor", [None, object()])
def test_a_loop_with_an_unknown_proactor_is_woken_as_any_other(pipe_name, proactor):
    loop = selector_loop() if WINDOWS else ThreadedLoop()
    loop._proactor = proactor
    calls = count_wakes(loop)

    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            await exchange(conn, 10)
        assert calls

    run(loop, main)
