"""npipes.aio: functions and coroutine functions for events, in the loop."""

import asyncio

import pytest
from aio_support import until
from support import Client

import npipes
import npipes.aio


def test_plain_functions_get_the_events_of_each_connection_in_order(loops, pipe_name):
    log = []

    def on_message(conn, message):
        log.append(message)
        conn.send_nowait(message.upper())

    async def main():
        async with npipes.aio.serve(
            name=pipe_name,
            on_connected=lambda conn: log.append("connected"),
            on_message=on_message,
            on_disconnected=lambda conn: log.append("disconnected"),
        ):
            async with npipes.aio.connect(pipe_name) as conn:
                assert await conn.call(b"a") == b"A"
                assert await conn.call(b"b") == b"B"
            await until(lambda: "disconnected" in log)
        assert log == ["connected", b"a", b"b", "disconnected"]

    loops.run(main)


def test_coroutine_functions_of_one_connection_never_overlap(loops, pipe_name):
    log = []
    inside = 0

    async def on_message(conn, message):
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.001)
        inside -= 1
        log.append(message)
        await conn.send(message)

    async def on_disconnected(conn):
        await asyncio.sleep(0)
        log.append("disconnected")

    async def main():
        async with npipes.aio.serve(
            name=pipe_name,
            on_connected=lambda conn: log.append("connected"),
            on_message=on_message,
            on_disconnected=on_disconnected,
        ):
            async with npipes.aio.connect(pipe_name) as conn:
                for i in range(50):
                    await conn.send(b"%d" % i)
                for i in range(50):
                    assert await conn.recv() == b"%d" % i
            await until(lambda: "disconnected" in log)
        assert log == ["connected", *(b"%d" % i for i in range(50)), "disconnected"]

    loops.run(main)


def test_methods_and_callable_objects_are_functions_too(loops, pipe_name):
    class Upper:
        async def __call__(self, conn, message):
            await conn.send(message.upper())

    async def main():
        async with npipes.aio.serve(name=pipe_name, on_message=Upper()):
            async with npipes.aio.connect(pipe_name) as conn:
                assert await conn.call(b"a") == b"A"

    loops.run(main)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "returned"])
def test_a_function_that_fails_ends_its_connection_and_is_reported(loops, pipe_name, kind):
    def plain(conn, message):
        raise ValueError("oops")

    async def coroutine(conn, message):
        raise ValueError("oops")

    async def nothing():
        pass

    work = {"plain": plain, "coroutine": coroutine, "returned": lambda conn, message: nothing()}

    async def main():
        async with npipes.aio.serve(name=pipe_name, on_message=work[kind]):
            async with npipes.aio.connect(pipe_name) as conn:
                await conn.send(b"x")
                with pytest.raises(npipes.ConnectionClosed):
                    await conn.recv()

    loops.run(main)
    (error,) = loops.taken_errors()
    assert isinstance(error, TypeError if kind == "returned" else ValueError)


def test_nothing_comes_behind_the_message_with_which_a_function_failed(loops, pipe_name):
    log = []

    def on_message(conn, message):
        log.append(message)
        if message == b"1":
            raise ValueError("oops")

    async def main():
        async with npipes.aio.serve(
            name=pipe_name, on_message=on_message, on_disconnected=lambda conn: log.append("disconnected")
        ) as server:
            with Client(server.address) as client:
                for i in range(5):  # they have all been handed over when the loop has time again
                    client.send(b"%d" % i)
                await until(lambda: "disconnected" in log)
        assert log == [b"0", b"1", "disconnected"]

    loops.run(main)
    (error,) = loops.taken_errors()
    assert isinstance(error, ValueError)


def test_messages_after_a_close_are_not_delivered(loops, pipe_name):
    got = []

    def on_message(conn, message):
        got.append(message)
        conn.close()

    async def main():
        async with npipes.aio.serve(name=pipe_name, on_message=on_message) as server:
            async with npipes.aio.connect(pipe_name) as conn:
                for i in range(10):
                    conn.send_nowait(b"%d" % i)
                await until(lambda: got and not server.connections)
        assert got == [b"0"]

    loops.run(main)


def test_on_error_hears_of_failures(loops, pipe_name):
    errors = []

    async def handler(conn):
        async for _ in conn:
            pass

    async def main():
        async with npipes.aio.serve(
            handler,
            pipe_name,
            max_message_size=1000,
            on_error=lambda conn, error: errors.append((conn, error)),
        ):
            async with npipes.aio.connect(pipe_name) as conn:
                await conn.send(bytes(2000))
                await until(lambda: errors)
        ((conn, error),) = errors
        assert isinstance(error, npipes.MessageTooLargeError)
        assert isinstance(conn, npipes.aio.Connection) and str(conn.error) == str(error)

    loops.run(main)


def test_ctrl_c_in_a_function_ends_the_loop(loops, pipe_name):
    def on_message(conn, message):
        raise KeyboardInterrupt

    async def main():
        async with npipes.aio.serve(name=pipe_name, on_message=on_message):
            async with npipes.aio.connect(pipe_name) as conn:
                await conn.send(b"x")
                await asyncio.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        loops.run(main)


def test_a_handler_that_is_no_coroutine_function_is_told_so(loops, pipe_name):
    reported = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        async with npipes.aio.serve(lambda conn: None, pipe_name):
            async with npipes.aio.connect(pipe_name) as conn:
                with pytest.raises(npipes.ConnectionClosed):
                    await conn.recv()
            await until(lambda: reported)
        error = reported[0]["exception"]
        assert type(error) is TypeError
        assert str(error) == "the handler must be a coroutine function (async def); it returned None"

    loops.run(main)
