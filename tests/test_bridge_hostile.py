"""Strangers on a bridge's subjects: what they send ends at most the tunnel that it names."""

import contextlib
import json
import random

import pytest
from aio_support import echo, until
from bridge_support import bridged, needs_nats, numbered, run
from support import WINDOWS, is_wine

needs_nats()

import nats  # noqa: E402

import npipes.aio  # noqa: E402
import npipes.bridge  # noqa: E402
from npipes.bridge.frames import CLOSE, DATA, ENTRY, HEADER, KEEP, NUMBER, REF  # noqa: E402


def bad_frames(number, granted):
    """Frames that no bridge would send next."""
    head = HEADER.pack(DATA, number, granted)
    yield b""
    yield b"\x11"
    yield HEADER.pack(0x7F, number, granted)
    yield HEADER.pack(DATA, number + 1, granted)
    yield HEADER.pack(DATA, number - 1, granted)
    yield HEADER.pack(DATA, number, 0)
    yield HEADER.pack(DATA, number, (1 << 64) - 1)
    yield HEADER.pack(CLOSE, number, granted)
    yield HEADER.pack(CLOSE, number, granted) + bytes(5000)
    yield head + b"\0\0"
    yield head + ENTRY.pack(5) + b"abc"
    yield head + ENTRY.pack(0xFFFFFFFF)
    yield head + ENTRY.pack(200_000) + bytes(200_000)  # more than is allowed at first
    yield head + ENTRY.pack(KEEP | 1) + NUMBER.pack(1) + b"x"
    yield head + ENTRY.pack(REF | 100) + NUMBER.pack(99)
    for seed in range(3 if is_wine() else 20):
        source = random.Random(seed)
        yield head + source.randbytes(source.randrange(4, 60))


async def is_over(conn):
    with contextlib.suppress(npipes.PipeError):
        async for _ in conn:
            pass
    return True


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_bad_frame_ends_its_own_tunnel_only(url, pipe_name, side):
    async def main():
        ended = []
        options = {"on_close": lambda tunnel, error: ended.append(error)}
        async with bridged(url, pipe_name, echo, **options) as (near, far):
            stranger = await nats.connect(url)
            async with npipes.aio.connect(f"{pipe_name}-far") as good:
                await good.call(b"there")
                victim = near if side == "server" else far
                for index, _ in enumerate(bad_frames(1, 0)):
                    known = set(victim.tunnels)
                    conn = await npipes.aio.connect(f"{pipe_name}-far")
                    await conn.call(b"hello")
                    (ident,) = victim.tunnels.keys() - known
                    tunnel = victim.tunnels[ident]
                    number = tunnel._in._number + 1
                    frame = list(bad_frames(number, tunnel._out.allowed))[index]
                    subject = victim.subjects.up if side == "server" else victim.subjects.down
                    ended.clear()
                    await stranger.publish(subject(victim.ident, ident), frame)
                    assert await is_over(conn)
                    await conn.close()
                    await until(lambda: len(ended) == 2)
                    assert all(isinstance(error, npipes.PipeError) for error in ended), (index, ended)
                    assert await good.call(numbered(index, 300)) == numbered(index, 300)
                assert len(near.tunnels) == len(far.tunnels) == 1
            await stranger.close()

    run(main)


def test_frames_for_no_tunnel_are_counted_and_dropped(url, pipe_name):
    async def main():
        async with bridged(url, pipe_name, echo) as (near, far):
            stranger = await nats.connect(url)
            async with npipes.aio.connect(f"{pipe_name}-far") as good:
                await good.call(b"there")
                for number in range(500):
                    await stranger.publish(near.subjects.up(near.ident, f"{number:032x}"), b"x" * 100)
                    await stranger.publish(far.subjects.down(far.ident, "x"), b"")
                await stranger.flush()
                await until(lambda: near.stats.stray_frames == far.stats.stray_frames == 500)
                assert await good.call(b"still") == b"still"
            await stranger.close()

    run(main)


TOKEN = "0123456789abcdef" * 2
PEER = {"host": "h", "bridge": "b"}
GOOD = {"protocol": 1, "bridge": TOKEN, "tunnel": TOKEN, "granted": 1000, "timeout": 5, "peer": PEER}


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"protocol": 2},
                {"bridge": "*"},
                {"bridge": TOKEN.upper()},
                {"bridge": 5},
                {"tunnel": ">"},
                {"tunnel": TOKEN + " "},
                {"tunnel": ""},
                {"tunnel": "a.b" + TOKEN[3:]},
                {"granted": -1},
                {"granted": True},
                {"granted": 1 << 60},
                {"granted": "1"},
                {"timeout": 0},
                {"timeout": None},
                {"timeout": 1e999},
                {"peer": None},
                {"peer": {"host": "h"}},
                {"peer": PEER | {"pid": "1"}},
                {"peer": PEER | {"user": "x" * 300}},
                {"peer": PEER | {"host": "a\nb"}},
            )
        ),
    ],
    ids=range(26),
)
def test_a_bad_request_is_refused(url, pipe_name, request_):
    async def main():
        async with bridged(url, pipe_name, echo) as (near, far):
            stranger = await nats.connect(url)
            reply = await stranger.request(near.subjects.open, request_, timeout=10)
            assert "error" in json.loads(reply.data)
            assert not near.tunnels and near.stats.refused == 1
            await stranger.publish(near.subjects.open, request_)  # without a reply subject
            async with npipes.aio.connect(f"{pipe_name}-far") as good:
                assert await good.call(b"hello") == b"hello"
            await stranger.close()

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps({"protocol": 1, "bridge": "*", "granted": 1, "peer": PEER}).encode(),
        json.dumps({"protocol": 1, "bridge": TOKEN, "granted": -1, "peer": PEER}).encode(),
        json.dumps({"protocol": 1, "bridge": TOKEN, "granted": 1, "peer": 7}).encode(),
    ],
    ids=range(6),
)
def test_a_bad_answer_ends_the_connection_with_an_error(url, pipe_name, answer):
    async def main():
        stranger = await nats.connect(url)

        async def take(message):
            await message.respond(answer)

        far = npipes.bridge.connect(pipe_name, pipe=f"{pipe_name}-far", nats=url)
        async with far:
            await stranger.subscribe(far.subjects.open, cb=take)
            await stranger.flush()
            async with npipes.aio.connect(f"{pipe_name}-far") as conn:
                try:
                    messages = [message async for message in conn]
                except npipes.PipeResetError:
                    messages = []
                else:
                    assert WINDOWS
                assert not messages
            assert far.stats.refused == 1
        await stranger.close()

    run(main)


def test_a_tunnel_that_nobody_uses_after_its_request_ends_by_itself(url, pipe_name):
    async def main():
        async with bridged(url, pipe_name, echo, heartbeat=0.1) as (near, far):
            stranger = await nats.connect(url)
            reply = await stranger.request(near.subjects.open, json.dumps(GOOD).encode(), timeout=10)
            assert json.loads(reply.data)["protocol"] == 1
            reply = await stranger.request(near.subjects.open, json.dumps(GOOD).encode(), timeout=10)
            assert "already" in json.loads(reply.data)["error"]
            assert len(near.tunnels) == 1
            await until(lambda: not near.tunnels)
            assert near.stats.failed == 1
            await stranger.close()

    run(main)
