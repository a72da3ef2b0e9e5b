"""One-way messages over JetStream: they survive restarts, and come at least once and in order."""

import asyncio
import os

import pytest
from aio_support import until
from bridge_support import NatsServer, needs_nats, nats_url, numbered, run

needs_nats()
if os.environ.get("NPIPES_TEST_NATS"):
    pytest.skip("the NATS server that was named may have no JetStream", allow_module_level=True)

import npipes.aio  # noqa: E402
import npipes.bridge  # noqa: E402


@pytest.fixture
def nats(tmp_path):
    with NatsServer("-js", "-sd", str(tmp_path)) as server:
        yield server


class Collector:
    """A server that keeps what it gets."""

    def __init__(self, answer=None):
        self.got = []
        self.answer = answer

    async def __call__(self, conn):
        async for message in conn:
            self.got.append(message)
            if self.answer is not None:
                await conn.send(self.answer)


def without_repeats(messages):
    """In the order of their first coming."""
    return list(dict.fromkeys(messages))


async def send(pipe, messages):
    async with npipes.aio.connect(pipe) as conn:
        for message in messages:
            await conn.send(message)


def test_what_is_stored_while_nobody_serves_is_delivered_later_in_order(nats, pipe_name):
    messages = [numbered(n, n * 7 % 3000) + b"#%d" % n for n in range(500)]
    messages.insert(250, bytes(900_000))

    async def main():
        options = {"nats": nats.url}
        pipe = f"{pipe_name}-far"
        async with npipes.bridge.store(pipe_name, pipe=pipe, **options) as store:
            await send(pipe, messages[:300])
            await until(lambda: store.messages == 300)
        async with npipes.bridge.store(pipe_name, pipe=pipe, **options):
            await send(pipe, messages[300:])  # its close stores what has come
        collector = Collector()
        async with npipes.bridge.deliver(pipe_name, timeout=0.3, **options) as deliver:
            await asyncio.sleep(0.5)  # no server yet
            async with npipes.aio.serve(collector, pipe_name):
                await until(lambda: len(collector.got) >= len(messages))
                await until(lambda: deliver.messages == len(messages))
        assert collector.got == messages

    run(main)


def test_nats_is_killed_and_restarted_under_way(nats, pipe_name, monkeypatch):
    count = 300
    monkeypatch.setattr(npipes.bridge.stored, "ACK_WAIT", 1.0)

    async def main():
        collector = Collector()
        options = {"nats": nats.url, "timeout": 1.0, "nats_options": {"reconnect_time_wait": 0.1}}
        pipe = f"{pipe_name}-far"
        async with (
            npipes.aio.serve(collector, pipe_name),
            npipes.bridge.deliver(pipe_name, **options),
            npipes.bridge.store(pipe_name, pipe=pipe, **options) as store,
            npipes.aio.connect(pipe) as conn,
        ):
            for number in range(count):
                if number == count // 2:
                    nats.kill()
                    restart = asyncio.create_task(asyncio.to_thread(nats.start))
                await conn.send(numbered(number, 200) + b"#%d" % number)
                await asyncio.sleep(0.0005)
            await restart
            await until(lambda: store.messages == count)
            await until(lambda: len(set(collector.got)) == count)
        assert without_repeats(collector.got) == [numbered(number, 200) + b"#%d" % number for number in range(count)]

    run(main)


def test_a_server_that_restarts_gets_what_it_had_not_confirmed_again(nats, pipe_name):
    handled = []

    async def dies(conn):
        """Confirms five messages and dies with the sixth."""
        for _ in range(5):
            handled.append(await conn.recv())
            await conn.send(b"")
        await conn.recv()

    async def main():
        options = {"nats": nats.url, "confirm": True}
        pipe = f"{pipe_name}-far"
        collector = Collector(answer=b"done")
        async with npipes.bridge.store(pipe_name, pipe=pipe, **options) as store:
            async with npipes.aio.connect(pipe) as conn:
                for number in range(20):
                    assert await conn.call(b"%d" % number) == b""  # it is stored
                    assert store.messages == number + 1
            async with npipes.bridge.deliver(pipe_name, timeout=0.3, **options) as deliver:
                async with npipes.aio.serve(dies, pipe_name):
                    await until(lambda: len(handled) >= 5)
                    await asyncio.sleep(0.05)
                async with npipes.aio.serve(collector, pipe_name):
                    await until(lambda: len(collector.got) >= 15)
                    await until(lambda: deliver.messages >= 20)
        everything = without_repeats(handled + collector.got)
        assert everything == [b"%d" % number for number in range(20)]

    run(main)


def test_several_hosts_deliver_in_order_together(nats, pipe_name):
    async def main():
        options = {"nats": nats.url}
        collector, pipe = Collector(), f"{pipe_name}-far"
        async with (
            npipes.aio.serve(collector, pipe_name),
            npipes.bridge.deliver(pipe_name, **options) as one,
            npipes.bridge.deliver(pipe_name, **options) as two,
            npipes.bridge.store(pipe_name, pipe=pipe, confirm=True, **options),
            npipes.aio.connect(pipe) as conn,
        ):
            for number in range(100):
                await conn.call(b"%d" % number)
            await until(lambda: len(collector.got) >= 100)
            await until(lambda: one.messages + two.messages == 100)
        assert collector.got == [b"%d" % number for number in range(100)]

    run(main)


def test_a_message_that_nats_can_t_hold_ends_its_connection(nats, pipe_name, caplog):
    async def main():
        pipe = f"{pipe_name}-far"
        async with npipes.bridge.store(pipe_name, pipe=pipe, nats=nats.url) as store:
            async with npipes.aio.connect(pipe) as conn:
                await conn.send(b"before")
                await conn.send(bytes(2 << 20))
                with pytest.raises(npipes.PipeError):
                    await conn.recv()
            await until(lambda: store.messages == 1)

    run(main)
    assert "a message of 2097152 bytes is more than max_message_size, 1047552 bytes" in caplog.text


def test_a_message_of_the_stream_that_is_no_batch_is_passed_over(nats, pipe_name):
    async def main():
        import nats as nats_py

        collector, pipe = Collector(), f"{pipe_name}-far"
        options = {"nats": nats.url}
        async with npipes.bridge.store(pipe_name, pipe=pipe, **options) as store:
            stranger = await nats_py.connect(nats.url)
            await stranger.jetstream().publish(store.subjects.stream, b"\1\0\0\0\5abc")
            await stranger.close()
            await send(pipe, [b"good"])
            async with npipes.aio.serve(collector, pipe_name):
                async with npipes.bridge.deliver(pipe_name, **options):
                    await until(lambda: collector.got == [b"good"])

    run(main)


def test_without_jetstream_it_does_not_start(pipe_name):
    async def main():
        for function in (npipes.bridge.store, npipes.bridge.deliver):
            with pytest.raises(npipes.bridge.BridgeError, match="JetStream"):
                await function(pipe_name, nats=url, timeout=1.0)

    with nats_url() as url:
        run(main)
