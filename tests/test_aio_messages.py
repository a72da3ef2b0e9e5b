"""npipes.aio: messages there and back, whoever is at the other end."""

import asyncio
import contextlib
import threading
import warnings

import pytest
from aio_support import echo, echo_pair, in_thread, until
from support import Client, frame, linux_only, raw_client, receive_frame

import npipes
import npipes.aio

SIZES = [0, 1, 127, 128, 129, 4096, 65535, 65536, 131071, 131072, 131073, 1 << 20, 5_000_001]


def test_messages_of_all_sizes_come_back_as_they_were(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            for size in SIZES:
                message = bytes(i & 255 for i in range(min(size, 1000))).ljust(size, b"x")
                await conn.send(message)
                assert await conn.recv() == message
                assert await conn.call(message) == message

    loops.run(main)


def test_whatever_is_like_bytes_can_be_sent(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            for data in (bytearray(b"one"), memoryview(b"two"), memoryview(bytes(200_000))):
                assert await conn.call(data) == bytes(data)
            for data in ("text", 5, None, memoryview(b"abcdef")[::2]):
                with pytest.raises((TypeError, BufferError)):
                    await conn.send(data)
            assert await conn.call(b"still there") == b"still there"

    loops.run(main)


def test_a_message_of_64_mib_is_received_whole(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            message = bytes(64 << 20)
            assert await conn.call(message) == message

    loops.run(main)


def test_many_messages_come_in_order(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            count = loops.scaled(20_000)

            async def feed():
                for i in range(count):
                    await conn.send(b"%d" % i)

            feeding = asyncio.create_task(feed())
            for i in range(count):
                assert await conn.recv() == b"%d" % i
            await feeding

    loops.run(main)


def test_the_standard_librarys_client_is_a_peer(loops, pipe_name):
    def talk(address):
        with Client(address) as client:
            for size in (1, 70_000, 0):
                client.send(bytes(size))
                assert client.receive() == bytes(size)

    async def main():
        async with npipes.aio.serve(echo, pipe_name) as server:
            await in_thread(talk, server.address)
            await until(lambda: not server.connections)

    loops.run(main)


def test_a_listener_that_waits_in_a_thread_is_a_peer(loops, listener):
    def answer():
        with listener.accept(timeout=20) as client:
            with contextlib.suppress(EOFError):
                while True:
                    client.send_bytes(client.recv_bytes(timeout=20).upper())

    async def main():
        thread = threading.Thread(target=answer)
        thread.start()
        async with npipes.aio.connect(listener.address) as conn:
            assert await conn.call(b"hello") == b"HELLO"
        await in_thread(thread.join)

    loops.run(main)


def test_async_for_ends_when_the_peer_closes_between_messages(loops, pipe_name):
    async def handler(conn):
        for i in range(3):
            await conn.send(b"%d" % i)

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            assert [message async for message in conn] == [b"0", b"1", b"2"]
            assert not conn.is_connected and conn.error is None
            with pytest.raises(npipes.ConnectionClosed, match="the peer closed") as caught:
                await conn.recv()
            assert isinstance(caught.value, EOFError)

    loops.run(main)


def test_what_came_before_the_end_is_still_received(loops, pipe_name):
    async def handler(conn):
        for _ in range(100):
            await conn.send(b"x" * 1000)

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            await until(lambda: not conn.is_connected)
            assert sum([len(message) async for message in conn]) == 100_000

    loops.run(main)


@linux_only
def test_a_peer_that_leaves_inside_a_message_is_an_error_for_who_waits(loops, pipe_name):
    caught = []

    async def handler(conn):
        assert await conn.recv() == b"whole"
        with pytest.raises(npipes.PipeResetError, match="5 of the 100 bytes") as error:
            await conn.recv()
        caught.append(error.value)
        await conn.wait_closed()
        assert isinstance(conn.error, npipes.PipeResetError)
        with pytest.raises(npipes.PipeResetError):
            await conn.send(b"x")

    async def main():
        async with npipes.aio.serve(handler, pipe_name) as server:
            client = raw_client(server)
            client.sendall(frame(b"whole") + frame(bytes(100))[:9])
            await until(lambda: server.connections)
            client.close()
            await until(lambda: caught)

    loops.run(main)


@linux_only
def test_a_peer_that_only_ends_its_sending_is_answered(loops, pipe_name):
    async def handler(conn):
        messages = [message async for message in conn]
        await asyncio.sleep(0.05)
        for message in messages:
            await conn.send(message.upper())

    def talk(server):
        import socket

        with raw_client(server) as client:
            client.sendall(frame(b"a") + frame(b"b"))
            client.shutdown(socket.SHUT_WR)
            return [receive_frame(client), receive_frame(client), client.recv(1)]

    async def main():
        async with npipes.aio.serve(handler, pipe_name) as server:
            assert await in_thread(talk, server) == [b"A", b"B", b""]

    loops.run(main)


def test_calls_that_overlap_get_their_own_replies(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            requests = [b"%d" % i for i in range(500)]
            assert await asyncio.gather(*map(conn.call, requests)) == requests

    loops.run(main)


def test_several_tasks_may_wait_and_are_served_in_order(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            waiting = [asyncio.create_task(conn.recv()) for _ in range(10)]
            await asyncio.sleep(0)
            for i in range(10):
                await conn.send(b"%d" % i)
            assert await asyncio.gather(*waiting) == [b"%d" % i for i in range(10)]

    loops.run(main)


def test_what_is_awaited_works_with_asyncios_own_functions(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            await asyncio.wait_for(conn.send(b"1"), 10)
            assert await asyncio.wait_for(conn.recv(), 10) == b"1"
            async with asyncio.TaskGroup() as group:
                task = group.create_task(conn.call(b"2"))
            assert task.result() == b"2"
            assert await asyncio.shield(conn.call(b"3")) == b"3"
            done, _ = await asyncio.wait([asyncio.ensure_future(conn.call(b"4"))])
            assert done.pop().result() == b"4"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await conn.recv()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(conn.recv(), 0.02)
            assert await conn.call(b"5") == b"5"

    loops.run(main)


def test_what_was_never_awaited_is_not_done_and_says_so(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            with pytest.warns(RuntimeWarning, match="'Connection.send' was never awaited"):
                conn.send(b"lost")
                await conn.send(b"1")
            assert await conn.recv() == b"1"
            once = conn.recv()
            await conn.send(b"2")
            assert await once == b"2"
            with pytest.raises(RuntimeError, match=r"recv\(\) was awaited before"):
                await once

    loops.run(main)


def test_what_hears_that_something_was_never_awaited_may_use_the_connection(loops, pipe_name, monkeypatch):
    """The warning comes while the memory of what was dropped is taken for another call."""
    made = []

    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            monkeypatch.setattr(warnings, "showwarning", lambda *args, **kwargs: made.append(conn.recv()))
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                for _ in range(3):
                    conn.recv()  # dropped
                made.append(conn.recv())
            monkeypatch.undo()
            assert len(made) >= 2 and len({id(each) for each in made}) == len(made)
            for i in range(len(made)):
                await conn.send(b"%d" % i)
            assert await asyncio.gather(*made) == [b"%d" % i for i in range(len(made))]

    loops.run(main)


def test_byte_mode_gives_what_arrives(loops, pipe_name):
    async def handler(conn):
        async for part in conn:
            await conn.send(part)

    async def main():
        async with npipes.aio.serve(handler, pipe_name, mode="byte"):
            async with npipes.aio.connect(pipe_name, mode="byte") as conn:
                data = bytes(range(256)) * 1000
                sending = asyncio.create_task(conn.send(data))
                got = b""
                while len(got) < len(data):
                    got += await conn.recv()
                assert got == data
                await sending

    loops.run(main)


def test_a_connection_tells_of_itself(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (server, conn):
            assert conn.is_connected and conn.error is None and conn.pending_bytes == 0
            assert conn.address == server.address and pipe_name in repr(conn)
            assert conn.handle > 0
            import os

            await until(lambda: server.connections)
            (accepted,) = server.connections
            assert accepted.peer.pid == conn.peer.pid == os.getpid()
            accepted.custom_data = {"a": 1}
            assert server.connections[0].custom_data == {"a": 1}
            assert server.stats.connections == 1
        assert not conn.is_connected and conn.handle == 0

    loops.run(main)


def test_broadcast_reaches_every_connection(loops, pipe_name):
    async def main():
        async with npipes.aio.serve(echo, pipe_name) as server:
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(npipes.aio.connect(pipe_name)) for _ in range(20)]
                await until(lambda: len(server.connections) == 20)
                assert server.broadcast(b"news") == 20
                assert [await client.recv() for client in clients] == [b"news"] * 20

    loops.run(main)
