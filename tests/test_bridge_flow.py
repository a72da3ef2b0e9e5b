"""A bridge under load: slow readers, broadcasts, a thousand tunnels."""

import asyncio
import contextlib

import pytest
from aio_support import echo, until
from bridge_support import bridged, needs_nats, numbered, run
from support import TIMEOUT, WINDOWS, descriptor_count, is_wine, resident_bytes

needs_nats()

import npipes.aio  # noqa: E402
import npipes.bridge  # noqa: E402

MiB = 1 << 20


# ---- back-pressure -------------------------------------------------------------


not_under_wine = pytest.mark.skipif(is_wine(), reason="the loads are too much for Wine's sockets")


@not_under_wine
def test_a_slow_server_slows_its_client_and_nothing_piles_up(url, pipe_name):
    go = asyncio.Event()
    size, count = 100_000, 1000
    got = []

    async def slow(conn):
        await go.wait()
        async for message in conn:
            got.append(message == numbered(len(got), size))

    async def main():
        async with bridged(url, pipe_name, slow) as (near, far):
            conn = await npipes.aio.connect(f"{pipe_name}-far")
            sent = 0

            async def send():
                nonlocal sent
                for number in range(count):
                    await conn.send(numbered(number, size))
                    sent += 1

            task = asyncio.create_task(send())
            before, same = -1, 0
            while same < 10:  # until it stands
                await asyncio.sleep(0.02)
                same = same + 1 if sent == before else 0
                before = sent
            assert sent < count // 3, f"{sent} of {count} messages were sent to nobody"
            for bridge in (near, far):
                (tunnel,) = bridge.tunnels.values()
                assert tunnel.queued_bytes < 6 * MiB
            go.set()
            await task
            await conn.close()
            await until(lambda: len(got) == count)
            assert all(got)

    run(main)


@not_under_wine
def test_a_slow_client_slows_its_server_and_nobody_else(url, pipe_name):
    size = 100_000
    sent = {}

    async def handler(conn):
        kind = await conn.recv()
        sent[kind] = 0
        if kind == b"echo":
            return await echo(conn)
        with contextlib.suppress(npipes.PipeError):
            while True:
                await conn.send(numbered(sent[kind], size))
                sent[kind] += 1

    async def main():
        async with bridged(url, pipe_name, handler) as (near, far):
            slow = await npipes.aio.connect(f"{pipe_name}-far")
            await slow.send(b"slow")
            quick = await npipes.aio.connect(f"{pipe_name}-far")
            await quick.send(b"echo")
            before = -1
            for number in range(2000):
                assert await quick.call(numbered(number, 200)) == numbered(number, 200)
                if number % 200 == 199 and sent[b"slow"] == before:
                    break
                if number % 200 == 199:
                    before = sent[b"slow"]
            assert sent[b"slow"] * size < 32 * MiB
            for number in range(200):
                assert await slow.recv() == numbered(number, size)
            await slow.close()
            await quick.close()

    run(main)


# ---- broadcast -----------------------------------------------------------------


def test_a_broadcast_goes_over_nats_once_for_each_host_not_for_each_client(url, pipe_name):
    hosts, clients, size, rounds = 2, 25, 100_000, 5

    async def listen(conn, number):
        await conn.send(b"%d" % number)  # its own answer comes somewhere in between
        got = [await conn.recv() for _ in range(rounds + 1)]
        got.remove(b"%d" % number)
        assert got == [numbered(turn, size) for turn in range(rounds)]

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            options = {"nats": url, "heartbeat": 5.0}
            server = await enter(npipes.aio.serve(echo, pipe_name))
            near = await enter(npipes.bridge.serve(pipe_name, **options))
            conns = []
            for host in range(hosts):
                pipe = f"{pipe_name}-far{host}"
                await enter(npipes.bridge.connect(pipe_name, pipe=pipe, **options))
                conns += [await enter(npipes.aio.connect(pipe)) for _ in range(clients)]
            for conn in conns:
                await conn.call(b"there")
            before = near.link.client.stats["out_bytes"]
            async with asyncio.TaskGroup() as group:
                for number, conn in enumerate(conns):
                    group.create_task(listen(conn, number))
                for turn in range(rounds):
                    await asyncio.sleep(0.01)
                    assert server.broadcast(numbered(turn, size)) == hosts * clients
            cost = (near.link.client.stats["out_bytes"] - before) / (rounds * size)
            # Once for each host, and once more where the first client's had left when the next came.
            assert hosts <= cost < 2 * hosts + 0.5, f"each broadcast went {cost:.1f} times"

    run(main)


# ---- many ----------------------------------------------------------------------


@pytest.mark.skipif(WINDOWS, reason="4,000 ends in one process are Linux's")
def test_a_thousand_tunnels(url, pipe_name):
    import resource

    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 4 * count + descriptor_count() + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"a process may have {hard} descriptors here, {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))

    async def main():
        # No heartbeat is on its way when the other end closes: it would be a stray frame.
        async with bridged(url, pipe_name, echo, heartbeat=60.0, timeout=TIMEOUT) as (near, far):
            async with contextlib.AsyncExitStack() as stack:
                conns = [await stack.enter_async_context(npipes.aio.connect(f"{pipe_name}-far")) for _ in range(count)]

                async def talk(index, conn):
                    for turn in range(3):
                        message = numbered(index * 10 + turn, 300)
                        assert await conn.call(message) == message

                async with asyncio.TaskGroup() as group:
                    for pair in enumerate(conns):
                        group.create_task(talk(*pair))
                assert len(near.tunnels) == len(far.tunnels) == count
                before = resident_bytes()
                big = numbered(7, 20_000)
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(conn.call(big)) for conn in conns]
                assert all(task.result() == big for task in tasks)
                assert resident_bytes() - before < 100 * MiB
            await until(lambda: not near.tunnels and not far.tunnels)
            for bridge in (near, far):
                stats = bridge.stats
                assert (stats.failed, stats.refused, stats.stray_frames) == (0, 0, 0)
                assert stats.messages_in == stats.messages_out == 4 * count

    try:
        run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
