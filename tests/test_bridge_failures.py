"""What a bridge does when NATS, a host or a process goes: nothing is lost without an error."""

import asyncio
import contextlib
import os
import signal
import sys
import time

import pytest
from aio_support import echo, until
from bridge_support import NatsServer, bridged, needs_nats, numbered, run
from support import WINDOWS, child_environment, linux_only

needs_nats()
if os.environ.get("NPIPES_TEST_NATS"):
    pytest.skip("the NATS server that was named can't be killed", allow_module_level=True)

import npipes.aio  # noqa: E402
import npipes.bridge  # noqa: E402


@pytest.fixture
def nats():
    with NatsServer() as server:
        yield server


class Stream:
    """A client that sends numbered messages as fast as it can, and checks every answer."""

    def __init__(self, name, size, window=10_000):
        self.name, self.size, self.window = name, size, window
        self.received = self.sent = 0
        self.error = None
        self.ended_in_order = False

    async def run(self):
        async with npipes.aio.connect(self.name) as conn:
            sender = asyncio.create_task(self._send(conn))
            try:
                async for message in conn:
                    assert message == numbered(self.received, self.size), self.received
                    self.received += 1
                self.ended_in_order = True
            except npipes.PipeError as error:
                self.error = error
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, conn):
        while True:
            await conn.send(numbered(self.sent, self.size))
            self.sent += 1
            while self.sent - self.received >= self.window:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def talking(nats, name, **options):
    """Both ends of a bridge, and a connection over it that has had a message."""
    async with bridged(nats.url, name, echo, **options) as (near, far):
        async with npipes.aio.connect(f"{name}-far") as conn:
            await conn.call(b"before")
            await asyncio.sleep(0.1)
            yield near, far, conn


async def lost(*bridges):
    await until(lambda: not any(bridge.link.is_up for bridge in bridges))


async def served_again(name):
    """Waits until new connections are served."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with npipes.aio.connect(name) as conn:
                    assert await conn.call(b"again") == b"again"
                return
            except npipes.PipeError:
                await asyncio.sleep(0.05)


@linux_only
def test_the_nats_server_is_killed_and_restarted_under_load(nats, pipe_name):
    ends = []

    async def main():
        options = {
            "heartbeat": 2.0,  # what floods the loop takes its time, and may be late
            "nats_options": {"reconnect_time_wait": 0.1},
            "on_close": lambda tunnel, error: ends.append(error),
        }
        async with bridged(nats.url, pipe_name, echo, **options) as (near, far):
            streams = [Stream(f"{pipe_name}-far", size) for size in (10, 1000, 100_000, 1_500_000)]
            tasks = [asyncio.create_task(stream.run()) for stream in streams]
            await until(lambda: all(stream.received > 3 for stream in streams))
            nats.kill()
            await asyncio.sleep(0.2)
            nats.start()
            await asyncio.gather(*tasks)
            for stream in streams:
                # What came was checked; that something is missing is no orderly end.
                assert isinstance(stream.error, npipes.PipeError), stream.error
                assert not stream.ended_in_order and stream.received <= stream.sent
            await until(lambda: not near.tunnels and not far.tunnels)
            assert near.stats.failed == far.stats.failed == len(streams)
            kinds = {type(error) for error in ends}
            assert kinds <= {
                npipes.bridge.FrameGapError,
                npipes.bridge.PeerLostError,
                npipes.bridge.NatsLostError,
                npipes.bridge.TunnelFailedError,
            }, kinds
            await served_again(f"{pipe_name}-far")

    run(main)


def test_tunnels_without_traffic_survive_a_short_loss_of_nats(nats, pipe_name):
    async def main():
        options = {"heartbeat": 2.0, "nats_options": {"reconnect_time_wait": 0.1}}
        async with talking(nats, pipe_name, **options) as (near, far, conn):
            nats.kill()
            await lost(near, far)
            call = asyncio.create_task(conn.call(b"meanwhile"))
            await asyncio.sleep(0.1)
            nats.start()
            assert await call == b"meanwhile"
            for number in range(100):
                assert await conn.call(numbered(number, 100)) == numbered(number, 100)

    run(main)


def test_the_first_to_come_back_waits_for_the_other(nats, pipe_name):
    async def main():
        near_options = {"nats_options": {"reconnect_time_wait": 0.5}}
        far_options = {"nats_options": {"reconnect_time_wait": 0.01}}
        both = {"heartbeat": 2.0, "serving": near_options, "connecting": far_options}
        async with talking(nats, pipe_name, **both) as (near, far, conn):
            nats.kill()
            await lost(near, far)
            nats.start()
            await until(lambda: far.link.is_up)
            was_alone = not near.link.is_up
            assert await conn.call(b"to one that is away") == b"to one that is away"
            return was_alone

    assert run(main), "the other one came back at once"


def test_tunnels_end_with_an_error_when_nats_stays_away(nats, pipe_name):
    async def main():
        ends = []
        options = {"heartbeat": 0.2, "on_close": lambda tunnel, error: ends.append(error)}
        async with talking(nats, pipe_name, **options) as (_, _, conn):
            nats.kill()
            if WINDOWS:
                assert [message async for message in conn] == []
            else:
                with pytest.raises(npipes.PipeResetError):
                    await conn.recv()
            await until(lambda: len(ends) == 2)
            assert all(isinstance(error, npipes.bridge.NatsLostError) for error in ends)

    run(main)


def test_a_nats_server_that_ends_in_order_is_waited_for_as_well(nats, pipe_name):
    async def main():
        options = {"heartbeat": 2.0, "nats_options": {"reconnect_time_wait": 0.1}}
        async with talking(nats, pipe_name, **options) as (near, far, conn):
            await asyncio.to_thread(nats.terminate)
            await lost(near, far)
            nats.start()
            assert await conn.call(b"after") == b"after"

    run(main)


@linux_only
def test_a_bridge_whose_user_is_taken_away_waits_until_it_is_back(pipe_name):
    users = "authorization { users = [ %s { user: other, password: x } ] }"
    with_ann = users % "{ user: ann, password: x },"
    ends = []
    with NatsServer(config=with_ann) as nats:

        async def main():
            options = {
                "nats_options": {"user": "ann", "password": "x", "reconnect_time_wait": 0.1},
                "heartbeat": 0.3,
                "on_close": lambda tunnel, error: ends.append(error),
            }
            async with bridged(nats.url, pipe_name, echo, **options):
                async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                    await conn.call(b"before")
                    nats.configure(users % "")
                    with pytest.raises(npipes.PipeResetError):
                        await conn.recv()
                await until(lambda: len(ends) == 2)
                assert all(isinstance(error, npipes.bridge.NatsLostError) for error in ends)
                nats.configure(with_ann)
                await served_again(f"{pipe_name}-far")

        run(main)


def test_a_bridge_that_nats_has_left_for_good_ends_with_an_error(nats, pipe_name):
    async def main():
        options = {"nats_options": {"allow_reconnect": False}}
        async with bridged(nats.url, pipe_name, echo, **options) as (near, far):
            waiting = asyncio.gather(near.serve_forever(), far.serve_forever(), return_exceptions=True)
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                await conn.call(b"before")
                nats.kill()
                with pytest.raises(npipes.PipeError):
                    await conn.recv()
            for error in await waiting:
                assert isinstance(error, npipes.bridge.NatsLostError)
                assert "for good" in str(error)
            with pytest.raises(npipes.PipeNotFoundError):
                await npipes.aio.connect(f"{pipe_name}-far", timeout=0)

    run(main)


# ---- a serving host ------------------------------------------------------------

SERVING = """
import asyncio, sys, npipes.aio, npipes.bridge
async def echo(conn):
    async for message in conn:
        await conn.send(message)
async def main():
    url, name, own = sys.argv[1:]
    async with npipes.aio.serve(echo, own):
        async with npipes.bridge.serve(name, pipe=own, nats=url, heartbeat=0.3):
            print("ready", flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""


async def serving_host(url, name, own):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVING,
        url,
        name,
        own,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    assert await process.stdout.readline() == b"ready\n"
    return process


@linux_only
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_serving_host_that_goes_ends_its_own_connections_only(nats, pipe_name, how):
    async def main():
        hosts = [await serving_host(nats.url, pipe_name, f"{pipe_name}-{n}") for n in range(2)]
        try:
            far = npipes.bridge.connect(pipe_name, pipe=f"{pipe_name}-far", nats=nats.url, heartbeat=0.3)
            async with far:
                streams = [Stream(f"{pipe_name}-far", 2000, window=20) for _ in range(10)]
                tasks = [asyncio.create_task(stream.run()) for stream in streams]
                await until(lambda: all(stream.received > 5 for stream in streams))
                pids = [tunnel.remote.pid for tunnel in far.tunnels.values()]
                gone = pids.count(hosts[0].pid)
                assert 0 < gone < 10, "the queue group gave all to one host"
                hosts[0].send_signal(how)
                await until(lambda: sum(task.done() for task in tasks) == gone)
                marks = [stream.received for stream in streams]
                await until(
                    lambda: all(
                        task.done() or stream.received > mark + 10
                        for task, stream, mark in zip(tasks, streams, marks, strict=True)
                    )
                )
                for task, stream in zip(tasks, streams, strict=True):
                    if task.done():
                        assert isinstance(stream.error, npipes.PipeError)
                        assert not stream.ended_in_order
                assert far.stats.failed == gone
                if how == signal.SIGKILL:
                    async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                        assert await conn.call(b"the other host") == b"the other host"
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for host in hosts:
                if host.returncode is None:
                    host.kill()
                await host.wait()

    run(main)


@linux_only
def test_a_connecting_host_that_is_killed_is_found_dead_by_the_server(nats, pipe_name):
    code = """
import asyncio, sys, npipes.aio, npipes.bridge
async def main():
    url, name = sys.argv[1:]
    async with npipes.bridge.connect(name, pipe=name + "-far", nats=url, heartbeat=0.3):
        async with npipes.aio.connect(name + "-far") as conn:
            await conn.send(b"hello")
            await asyncio.Event().wait()
asyncio.run(main())
"""
    got = []

    async def handler(conn):
        try:
            async for message in conn:
                got.append(message)
        except npipes.PipeError as error:
            got.append(type(error))

    async def main():
        async with npipes.aio.serve(handler, pipe_name):
            near = npipes.bridge.serve(pipe_name, nats=nats.url, heartbeat=0.3)
            async with near:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", code, nats.url, pipe_name, env=child_environment()
                )
                await until(lambda: got == [b"hello"])
                process.kill()
                await process.wait()
                await until(lambda: len(got) == 2)

    run(main)
    assert got == [b"hello", npipes.PipeResetError]


def test_a_loop_that_had_no_time_takes_nobody_for_lost(nats, pipe_name):
    async def main():
        async with talking(nats, pipe_name, heartbeat=0.2) as (near, far, conn):
            time.sleep(1.5)  # more than three heartbeats
            assert await conn.call(b"after") == b"after"
            await asyncio.sleep(0.5)
            assert await conn.call(b"later") == b"later"
            assert near.stats.tunnels == far.stats.tunnels == 1

    run(main)
