"""A bridge with both ends in one process: what a client and a server see of each other."""

import asyncio
import contextlib
import os
import stat

import pytest
from aio_support import echo, until
from bridge_support import bridged, needs_nats, numbered, run
from support import TIMEOUT, WINDOWS, is_wine, linux_only, needs_names_of_ones_own

needs_nats()

import npipes.aio  # noqa: E402
import npipes.bridge  # noqa: E402

MiB = 1 << 20


async def end_of(conn):
    """What a client gets at the end: None after an orderly one, else the error."""
    try:
        async for _ in conn:
            pass
    except npipes.PipeError as error:
        return error
    return None


# ---- messages ----------------------------------------------------------------


def test_messages_of_every_size_keep_their_boundaries_and_their_order(url, pipe_name):
    sizes = [0, 1, 127, 128, 4095, 4096, 65535, MiB - 1, MiB, MiB + 1, 5 * MiB, 0, 3]

    async def main():
        async with bridged(url, pipe_name, echo), npipes.aio.connect(f"{pipe_name}-far") as conn:
            messages = [numbered(*pair) for pair in enumerate(sizes)]
            for message in messages:
                await conn.send(message)
            for message in messages:
                assert await conn.recv() == message
            assert await conn.call(b"and then") == b"and then"

    run(main)


def test_a_bridge_works_on_every_loop(url, pipe_name, loops):
    async def main():
        async with bridged(url, pipe_name, echo), npipes.aio.connect(f"{pipe_name}-far") as conn:
            for number in range(20):
                assert await conn.call(numbered(number, 100)) == numbered(number, 100)

    loops.run(main)


def test_many_small_messages_in_both_directions_at_once(url, pipe_name):
    count = 1000 if is_wine() else 5000

    async def main():
        async with bridged(url, pipe_name, echo) as (near, far):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:

                async def send():
                    for number in range(count):
                        await conn.send(b"%d" % number)

                task = asyncio.create_task(send())
                for number in range(count):
                    assert await conn.recv() == b"%d" % number
                await task
                assert near.stats.messages_in == far.stats.messages_in == count
                assert near.stats.messages_out == far.stats.messages_out == count
            await until(lambda: not near.tunnels and not far.tunnels)
            assert (near.stats.tunnels_total, near.stats.failed, near.stats.messages_in) == (1, 0, count)

    run(main)


def test_blocking_clients_and_the_standard_library_are_clients_as_before(url, pipe_name):
    from multiprocessing.connection import Client as StandardClient

    def client():
        with npipes.connect(f"{pipe_name}-far") as one:
            assert one.call(b"one", timeout=TIMEOUT) == b"one"
        with StandardClient(npipes.address(f"{pipe_name}-far")) as two:
            two.send({"a": [1, 2]})
            return two.recv()

    async def main():
        async with bridged(url, pipe_name, echo):
            return await asyncio.to_thread(client)

    assert run(main) == {"a": [1, 2]}


def test_a_message_of_more_than_is_allowed_ends_its_tunnel_with_an_error(url, pipe_name):
    ended = asyncio.Queue()

    async def main():
        options = {"serving": {"max_message_size": 1000, "on_close": lambda t, e: ended.put_nowait(e)}}
        async with bridged(url, pipe_name, echo, **options):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                assert await conn.call(bytes(1000)) == bytes(1000)
                await conn.send(bytes(1001))
                error = await end_of(conn)
                assert WINDOWS or isinstance(error, npipes.PipeResetError)
        error = ended.get_nowait()
        assert isinstance(error, npipes.MessageTooLargeError) and "1000 bytes" in str(error)

    run(main)


# ---- the end -----------------------------------------------------------------


def test_a_client_that_closes_is_an_orderly_end_for_the_server_after_its_messages(url, pipe_name):
    got = []

    async def handler(conn):
        got.extend([message async for message in conn])
        got.append(conn.error)

    async def main():
        async with bridged(url, pipe_name, handler) as (near, far):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                for number in range(100):
                    await conn.send(b"%d" % number)
            await until(lambda: len(got) > 100)
            assert (near.stats.failed, far.stats.failed) == (0, 0)

    run(main)
    assert got == [b"%d" % number for number in range(100)] + [None]


def test_a_server_that_closes_is_an_orderly_end_for_the_client_after_its_messages(url, pipe_name):
    async def handler(conn):
        for number in range(20):
            await conn.send(numbered(number, 100_000))

    async def main():
        async with bridged(url, pipe_name, handler) as (near, far):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                await asyncio.sleep(0.05)
                messages = [message async for message in conn]
                assert messages == [numbered(number, 100_000) for number in range(20)]
                assert conn.error is None
            await until(lambda: not near.tunnels and not far.tunnels)
            assert (near.stats.failed, far.stats.failed) == (0, 0)

    run(main)


@linux_only
def test_a_client_that_dies_inside_a_message_is_an_error_for_the_server(url, pipe_name):
    errors = []

    async def handler(conn):
        errors.append(await end_of(conn))

    async def main():
        async with bridged(url, pipe_name, handler) as (near, far):
            conn = await npipes.aio.connect(f"{pipe_name}-far")
            await conn.send(b"whole")
            await until(lambda: near.stats.messages_in == 1)
            os.write(conn.handle, b"\0\0")
            await conn.close()
            await until(lambda: errors)
            assert (near.stats.failed, far.stats.failed) == (1, 1)

    run(main)
    assert isinstance(errors[0], npipes.PipeResetError)


def test_the_reason_of_a_failure_travels(url, pipe_name):
    reasons = []

    async def main():
        options = {"connecting": {"on_close": lambda tunnel, error: reasons.append(error)}}
        async with bridged(url, pipe_name, echo, **options) as (near, far):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                await conn.call(b"there")
                near.close(grace=0)
                error = await end_of(conn)
                assert WINDOWS or isinstance(error, npipes.PipeResetError)

    run(main)
    (error,) = reasons
    assert isinstance(error, npipes.bridge.TunnelFailedError)
    assert "the bridge was stopped" in str(error)


def test_a_close_with_grace_lets_connections_end_in_order(url, pipe_name):
    async def main():
        async with bridged(url, pipe_name, echo) as (near, far):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                await conn.call(b"there")
                closing = [near.close(grace=TIMEOUT), far.close(grace=TIMEOUT)]
                await asyncio.sleep(0.05)
                assert await conn.call(b"still there") == b"still there"
            await asyncio.gather(*closing)
            assert (near.stats.failed, far.stats.failed) == (0, 0)
            with pytest.raises(npipes.PipeNotFoundError):
                await npipes.aio.connect(f"{pipe_name}-far", timeout=0)

    run(main)


def test_clients_that_come_and_go_leave_nothing(url, pipe_name):
    count = 40 if is_wine() else 200

    async def main():
        async with bridged(url, pipe_name, echo) as (near, far):

            async def visit(number):
                conn = await npipes.aio.connect(f"{pipe_name}-far", timeout=TIMEOUT)
                if number % 3:
                    await conn.send(b"hello")
                if number % 3 == 2:
                    assert await conn.recv() == b"hello"
                conn.close()

            await asyncio.gather(*(visit(number) for number in range(count)))
            await until(lambda: far.stats.tunnels_total + far.stats.refused >= count * 2 // 3)
            await until(lambda: not near.tunnels and not far.tunnels)
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                assert await conn.call(b"and now") == b"and now"
            await until(lambda: not near._far and not far._far)

    run(main)


# ---- who serves --------------------------------------------------------------


def test_a_client_waits_for_a_server_and_gets_an_error_when_none_comes(url, pipe_name):
    async def main():
        far = npipes.bridge.connect(pipe_name, pipe=f"{pipe_name}-far", nats=url, timeout=0.3)
        async with far, npipes.aio.connect(f"{pipe_name}-far") as conn:
            error = await end_of(conn)
            assert WINDOWS or isinstance(error, npipes.PipeResetError)
            assert far.stats.refused == 1

    run(main)


def test_a_client_may_come_before_the_bridge_and_before_the_server(url, pipe_name):
    async def main():
        far = npipes.bridge.connect(pipe_name, pipe=f"{pipe_name}-far", nats=url, timeout=TIMEOUT)
        near = npipes.bridge.serve(pipe_name, nats=url, timeout=0.1)
        async with far, npipes.aio.connect(f"{pipe_name}-far") as conn:
            call = asyncio.create_task(conn.call(b"early"))
            await asyncio.sleep(0.05)
            async with near:
                await until(lambda: near.stats.refused)
                async with npipes.aio.serve(echo, pipe_name):
                    assert await call == b"early"

    run(main)


def test_connections_are_spread_over_the_hosts_that_serve(url, pipe_name):
    async def main():
        both = {"nats": url, "heartbeat": 1.0}
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            await enter(npipes.aio.serve(echo, pipe_name))
            hosts = [await enter(npipes.bridge.serve(pipe_name, **both)) for _ in range(3)]
            await enter(npipes.bridge.connect(pipe_name, pipe=f"{pipe_name}-far", **both))
            for _ in range(60):
                conn = await enter(npipes.aio.connect(f"{pipe_name}-far"))
                await conn.call(b"there")
            counts = [len(host.tunnels) for host in hosts]
            assert sum(counts) == 60 and min(counts) >= 5, counts

    run(main)


def test_a_bridge_takes_so_many_tunnels_and_no_more(url, pipe_name):
    async def main():
        options = {"serving": {"max_tunnels": 2}, "timeout": 0.5}
        async with bridged(url, pipe_name, echo, **options) as (near, far):
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(2):
                    conn = await stack.enter_async_context(npipes.aio.connect(f"{pipe_name}-far"))
                    await conn.call(b"there")
                async with npipes.aio.connect(f"{pipe_name}-far") as third:
                    await end_of(third)
                assert near.stats.refused and far.stats.refused == 1
            await until(lambda: not near.tunnels)
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                assert await conn.call(b"room again") == b"room again"

    run(main)


# ---- who is there ------------------------------------------------------------


def test_both_ends_can_be_told_who_is_at_the_other(url, pipe_name):
    async def handler(conn):
        await conn.send(await conn.recv())  # the announcement of the client
        async for message in conn:
            await conn.send(message)

    async def main():
        async with bridged(url, pipe_name, handler, announce=True) as (near, far):
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                server = npipes.bridge.RemotePeer.from_bytes(await conn.recv())
                client = npipes.bridge.RemotePeer.from_bytes(await conn.recv())
                assert await conn.call(b"hello") == b"hello"
                (tunnel,) = near.tunnels.values()
                assert tunnel.remote == client
        for peer in (server, client):
            assert peer.host == npipes.bridge.peers.host_name()
            assert peer.pid == os.getpid()
            assert peer.user
        assert server.bridge == near.ident and client.bridge == far.ident

    run(main)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"hello",
        b"{}",
        b'{"npipes-peer": 1}',
        b"[" * 100_000,
        b'{"npipes-peer": 1, "host": 5, "bridge": "b"}',
        b'{"npipes-peer": 1, "host": "a\\u0007", "bridge": "b"}',
    ],
)
def test_a_first_message_that_announces_nobody_is_refused(message):
    with pytest.raises(npipes.bridge.BadFrameError):
        npipes.bridge.RemotePeer.from_bytes(message)


@linux_only
def test_the_local_side_keeps_its_access_rules(url, pipe_name):
    async def main():
        options = {"connecting": {"access": 0o660}}
        async with bridged(url, pipe_name, echo, **options) as (near, far):
            assert stat.S_IMODE(os.stat(far.address).st_mode) == 0o660

    run(main)


def test_each_local_side_has_an_authkey_of_its_own(url, pipe_name):
    async def main():
        options = {
            "server": {"authkey": b"the server's"},
            "serving": {"authkey": b"the server's"},
            "connecting": {"authkey": b"the clients'"},
        }
        async with bridged(url, pipe_name, echo, **options):
            async with npipes.aio.connect(f"{pipe_name}-far", authkey=b"the clients'") as conn:
                assert await conn.call(b"hello") == b"hello"
            with pytest.raises(npipes.AuthenticationError):
                await npipes.aio.connect(f"{pipe_name}-far", authkey=b"the server's")

    run(main)


# ---- parameters --------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "a b", "a*", "a.>", ".a", "a.", "a..b", "a/b", "\\\\.\\pipe\\a", "@a", "ä", "a\n", "a\r\nPUB x 0", "x" * 129]
)
@pytest.mark.parametrize("function", ["serve", "connect", "store", "deliver"])
def test_a_name_that_is_no_subject_is_refused(function, name):
    with pytest.raises(ValueError, match="a bridge's name"):
        getattr(npipes.bridge, function)(name)
    with pytest.raises(ValueError, match="a bridge's prefix"):
        getattr(npipes.bridge, function)("demo", prefix=name)


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat": 0},
        {"heartbeat": float("nan")},
        {"timeout": 0},
        {"max_tunnels": 0},
        {"max_message_size": 0},
        {"max_message_size": 1 << 31},
    ],
)
def test_a_parameter_out_of_its_range_is_refused(options):
    for function in (npipes.bridge.serve, npipes.bridge.connect):
        with pytest.raises(ValueError, match=next(iter(options))):
            function("demo", **options)


def test_an_option_of_nats_that_the_bridge_needs_itself_is_refused(pipe_name):
    async def main():
        with pytest.raises(ValueError, match="error_cb"):
            await npipes.bridge.serve(pipe_name, nats_options={"error_cb": None})

    run(main)


def test_a_name_with_dots_and_another_prefix(url, pipe_name):
    async def main():
        async with bridged(url, f"{pipe_name}.v1.x_y", echo, prefix="acme.pipes"):
            async with npipes.aio.connect(f"{pipe_name}.v1.x_y-far") as conn:
                assert await conn.call(b"hello") == b"hello"

    run(main)


def test_without_nats_it_does_not_start(pipe_name):
    from bridge_support import free_port

    async def main():
        secret = f"nats://user:secret@127.0.0.1:{free_port()}"
        for function in (npipes.bridge.serve, npipes.bridge.connect):
            with pytest.raises(npipes.bridge.NatsLostError, match=r"within 0\.3 seconds") as caught:
                await function(pipe_name, nats=secret, timeout=0.3)
            assert "secret" not in str(caught.value)

    run(main)


def test_a_pipe_that_somebody_serves_already_is_not_taken_over(url, pipe_name):
    needs_names_of_ones_own()

    async def main():
        async with npipes.aio.serve(echo, pipe_name):
            with pytest.raises(FileExistsError):
                await npipes.bridge.connect(pipe_name, nats=url)

    run(main)
