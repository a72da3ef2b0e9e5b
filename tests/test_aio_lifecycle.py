"""npipes.aio: how servers, connections and loops end, in whatever order."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest
from aio_support import ThreadedLoop, echo, echo_pair, in_thread, until
from support import (
    WINDOWS,
    Client,
    descriptor_count,
    eventually,
    linux_only,
    run_python,
    thread_count,
)

import npipes
import npipes.aio


# ---- the server ----------------------------------------------------------


def test_a_server_is_awaited_or_entered(loops, pipe_name):
    async def main():
        server = await npipes.aio.serve(echo, pipe_name)
        assert server.is_running and pipe_name in repr(server)
        async with npipes.aio.connect(pipe_name) as conn:
            assert await conn.call(b"x") == b"x"
        await server.close()
        await server.close()
        assert not server.is_running
        with pytest.raises(npipes.PipeNotFoundError):
            await npipes.aio.connect(pipe_name, timeout=0)

    loops.run(main)


def test_serve_forever_ends_with_its_cancellation_and_with_close(loops, pipe_name):
    async def main():
        async with npipes.aio.serve(echo, pipe_name) as server:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await server.serve_forever()
            assert not server.is_running
        server = await npipes.aio.serve(echo, pipe_name)
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0.01)
        server.close()
        await forever

    loops.run(main)


def test_handlers_finish_within_the_grace_period(loops, pipe_name):
    """They get what has come, then the end, and what they send still arrives."""

    async def handler(conn):
        messages = [message async for message in conn]
        await asyncio.sleep(0.05)
        for message in messages:
            await conn.send(message.upper())

    async def main():
        server = await npipes.aio.serve(handler, pipe_name)
        async with npipes.aio.connect(pipe_name) as conn:
            for message in (b"a", b"b", b"c"):
                await conn.send(message)
            await until(lambda: server.stats.messages_in == 3)
            await server.close()
            assert [message async for message in conn] == [b"A", b"B", b"C"]
            assert conn.error is None

    loops.run(main)


def test_handlers_that_do_not_finish_are_cancelled(loops, pipe_name):
    ends = []

    async def handler(conn):
        try:
            await asyncio.sleep(3600)
        finally:
            ends.append(asyncio.current_task().cancelling())

    async def main():
        server = await npipes.aio.serve(handler, pipe_name)
        async with npipes.aio.connect(pipe_name):
            await until(lambda: server.connections)
            await asyncio.sleep(0)
            begin = asyncio.get_running_loop().time()
            await server.close(grace=0.1)
            assert asyncio.get_running_loop().time() - begin < 5
        assert ends == [1]
        with pytest.raises(ValueError, match="grace must be at least 0 seconds, not -1"):
            server.close(-1)

    loops.run(main)


def test_a_handler_may_close_its_server(loops, pipe_name):
    async def handler(conn):
        await conn.send(b"last")
        await server.close()

    async def main():
        nonlocal server
        server = await npipes.aio.serve(handler, pipe_name)
        conn = await npipes.aio.connect(pipe_name)
        assert await conn.recv() == b"last"
        await server.wait_closed()
        await conn.close()

    server = None
    loops.run(main)


def test_a_handler_that_raises_ends_its_connection_and_is_reported(loops, pipe_name):
    async def handler(conn):
        raise ValueError(await conn.recv())

    async def main():
        async with npipes.aio.serve(handler, pipe_name):
            async with npipes.aio.connect(pipe_name) as bad, npipes.aio.connect(pipe_name) as good:
                await bad.send(b"oops")
                with pytest.raises(npipes.ConnectionClosed):
                    await bad.recv()
                assert good.is_connected

    loops.run(main)
    (error,) = loops.taken_errors()
    assert isinstance(error, ValueError) and error.args == (b"oops",)


def test_a_handler_that_is_no_coroutine_function_is_reported(loops, pipe_name):
    async def main():
        async with npipes.aio.serve(lambda conn: 5, pipe_name):
            async with npipes.aio.connect(pipe_name) as conn:
                with pytest.raises(npipes.ConnectionClosed):
                    await conn.recv()

    loops.run(main)
    (error,) = loops.taken_errors()
    assert isinstance(error, TypeError)


def test_two_servers_on_one_name_are_an_error(loops, pipe_name):
    from support import needs_names_of_ones_own

    needs_names_of_ones_own()

    async def main():
        async with npipes.aio.serve(echo, pipe_name):
            with pytest.raises(FileExistsError):
                await npipes.aio.serve(echo, pipe_name)
            async with npipes.aio.connect(pipe_name) as conn:
                assert await conn.call(b"x") == b"x"

    loops.run(main)


def test_bad_arguments_say_what_they_are():
    async def handler(conn):
        pass

    with pytest.raises(TypeError, match="misses the argument 'name'"):
        npipes.aio.serve(handler)
    with pytest.raises(TypeError, match="a handler or on_message"):
        npipes.aio.serve(name="x")
    with pytest.raises(TypeError, match="not both"):
        npipes.aio.serve(handler, "x", on_message=print)
    with pytest.raises(TypeError, match="must be callable, not 5"):
        npipes.aio.serve(5, "x")

    async def main():
        with pytest.raises(ValueError, match="cannot start without specifying a pipe name"):
            await npipes.aio.serve(handler, "")
        with pytest.raises(ValueError, match="cannot connect without specifying a pipe name"):
            await npipes.aio.connect("")
        with pytest.raises(RuntimeError, match="not started"):
            npipes.aio.serve(handler, "x").address

    asyncio.run(main())


# ---- connecting ----------------------------------------------------------


def test_connect_waits_for_a_server_that_comes_late(loops, pipe_name):
    async def main():
        connecting = asyncio.ensure_future(npipes.aio.connect(pipe_name)._connected())
        await asyncio.sleep(0.05)
        async with npipes.aio.serve(echo, pipe_name):
            conn = await connecting
            assert await conn.call(b"x") == b"x"
            await conn.close()

    loops.run(main)


def test_connect_gives_up_when_its_time_is_over(loops, pipe_name):
    async def main():
        begin = asyncio.get_running_loop().time()
        with pytest.raises(npipes.PipeNotFoundError, match=pipe_name) as caught:
            await npipes.aio.connect(pipe_name, timeout=0.1)
        assert isinstance(caught.value, FileNotFoundError)
        assert 0.05 < asyncio.get_running_loop().time() - begin < 5
        with pytest.raises(ValueError, match="timeout must be None or at least 0 seconds, not -1"):
            await npipes.aio.connect(pipe_name, timeout=-1)

    loops.run(main)


def test_the_fifth_client_of_a_pool_of_four_waits_for_its_turn(loops, pipe_name):
    async def main():
        async with npipes.aio.serve(echo, pipe_name, max_instances=4, listeners=4):
            four = [await npipes.aio.connect(pipe_name) for _ in range(4)]
            for conn in four:
                assert await conn.call(b"x") == b"x"

            async def fifth():
                async with npipes.aio.connect(pipe_name, timeout=20) as conn:
                    return await conn.call(b"served")

            waiting = asyncio.create_task(fifth())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await four[0].close()
            assert await waiting == b"served"
            for conn in four[1:]:
                await conn.close()

    loops.run(main)


def test_a_thousand_connections_at_once(loops, pipe_name):
    count = 1000 if not WINDOWS and loops.kind != "debug" else 100

    async def main():
        async with npipes.aio.serve(echo, pipe_name) as server:
            conns = await asyncio.gather(*(npipes.aio.connect(pipe_name, timeout=30)._connected() for _ in range(count)))
            replies = await asyncio.gather(*(conn.call(b"%d" % i) for i, conn in enumerate(conns)))
            assert replies == [b"%d" % i for i in range(count)]
            assert len(server.connections) == count
            await asyncio.gather(*(asyncio.ensure_future(conn.close()) for conn in conns))
            await until(lambda: not server.connections)

    loops.run(main)


# ---- the connection ------------------------------------------------------


def test_close_ends_those_who_wait(loops, pipe_name):
    async def main():
        async with echo_pair(pipe_name) as (_, conn):
            waiting = [asyncio.ensure_future(conn.recv()) for _ in range(3)]
            looping = asyncio.create_task(_collect(conn))
            await asyncio.sleep(0.01)
            conn.close()
            for task in waiting:
                with pytest.raises(npipes.ConnectionClosed, match="closed here"):
                    await task
            assert await looping == []
            await conn.wait_closed()
            with pytest.raises(npipes.PipeClosedError):
                await conn.send(b"x")
            with pytest.raises(npipes.PipeClosedError):
                conn.send_nowait(b"x")
            await conn.close()

    loops.run(main)


async def _collect(conn):
    return [message async for message in conn]


def test_who_waits_for_the_end_only_sees_the_peer_leave(loops, pipe_name):
    ended = []

    async def handler(conn):
        if not ended:
            await conn.wait_closed()
        else:
            await asyncio.sleep(0.05)  # the peer has left by then
            await conn.wait_closed()
        ended.append(conn.error)

    async def main():
        async with npipes.aio.serve(handler, pipe_name) as server:
            for count in (1, 2):
                async with npipes.aio.connect(pipe_name):
                    await until(lambda: server.connections)
                await until(lambda: len(ended) == count)

    loops.run(main)
    assert ended == [None, None]


def test_what_was_sent_before_close_arrives(loops, pipe_name):
    received = []

    async def handler(conn):
        async for message in conn:
            received.append(len(message))
        done.set_result(None)

    async def main():
        nonlocal done
        done = asyncio.get_running_loop().create_future()
        async with npipes.aio.serve(handler, pipe_name):
            async with npipes.aio.connect(pipe_name) as conn:
                for _ in range(8):
                    await conn.send(bytes(100_000))
            await done
        assert received == [100_000] * 8

    done = None
    loops.run(main)


def test_a_server_that_is_killed_is_an_error_or_an_end_for_those_who_wait(loops, pipe_name):
    code = """
        import sys, npipes
        with npipes.Server(sys.argv[1], on_message=lambda conn, data, cookie: None) as server:
            server.on_connected = lambda conn: print("connected", flush=True)
            print("ready", flush=True)
            server.run()
    """
    from support import python_process

    async def main():
        with python_process(code, pipe_name) as process:
            assert await in_thread(process.stdout.readline) == "ready\n"
            conn = await npipes.aio.connect(pipe_name)
            assert await in_thread(process.stdout.readline) == "connected\n"
            receiving = asyncio.ensure_future(conn.recv())
            await asyncio.sleep(0.01)
            process.kill()
            with pytest.raises((npipes.PipeError, EOFError)):
                await receiving
            await conn.close()

    loops.run(main)


# ---- the loop ------------------------------------------------------------


def make_loop(loops):
    loop = loops.new()
    loop.set_exception_handler(lambda loop, context: loops.errors.append(context))
    return loop


def test_a_loop_may_be_closed_under_a_live_server(loops, pipe_name):
    loop = make_loop(loops)

    async def begin():
        server = await npipes.aio.serve(echo, pipe_name)
        conn = await npipes.aio.connect(pipe_name)
        assert await conn.call(b"x") == b"x"
        return server, conn

    server, conn = loop.run_until_complete(begin())
    loop.close()
    assert not server.is_running and not conn.is_connected
    with pytest.raises(FileNotFoundError):
        npipes.connect(pipe_name, timeout=0)


def test_a_loop_may_be_closed_under_awaits(loops, pipe_name):
    """No task of ours complains that it was destroyed."""
    loop = make_loop(loops)

    async def begin():
        await npipes.aio.serve(echo, pipe_name)
        conn = await npipes.aio.connect(pipe_name)
        waits = [conn.recv(), conn.wait_closed(), conn.call(b"x")]
        tasks = [loop.create_task(wait) for wait in waits]
        tasks.append(loop.create_task(npipes.aio.connect(pipe_name + "-none")._connected()))
        for task in tasks:
            task._log_destroy_pending = False  # these are the test's
        await asyncio.sleep(0.02)
        return tasks

    tasks = loop.run_until_complete(begin())
    loop.close()
    with contextlib.suppress(FileNotFoundError):
        npipes.connect(pipe_name, timeout=0).close()
        raise AssertionError("the server outlived its loop")
    del tasks
    gc.collect()


def test_a_loop_that_is_dropped_takes_everything_with_it(loops, pipe_name):
    loop = make_loop(loops)

    async def begin():
        server = await npipes.aio.serve(echo, pipe_name)
        conn = await npipes.aio.connect(pipe_name)
        assert await conn.call(b"x") == b"x"
        return weakref.ref(server)

    server = loop.run_until_complete(begin())
    loop.close()
    del loop
    gc.collect()
    assert eventually(lambda: gc.collect() is not None and server() is None)


def test_what_is_called_on_a_closed_loop_does_no_harm(loops, pipe_name):
    loop = make_loop(loops)

    async def begin():
        server = await npipes.aio.serve(echo, pipe_name)
        return server, await npipes.aio.connect(pipe_name)

    server, conn = loop.run_until_complete(begin())
    loop.close()
    conn.close()
    with pytest.raises(npipes.PipeClosedError):
        conn.send_nowait(b"x")
    assert server.broadcast(b"x") == 0
    assert server.connections == []

    async def again():
        async with echo_pair(pipe_name) as (_, conn):
            assert await conn.call(b"x") == b"x"

    loops.run(again)


@pytest.mark.parametrize("how", ["return", "exit", "raise"])
def test_a_program_may_end_without_closing_anything(pipe_name, how):
    code = """
        import asyncio, sys, npipes, npipes.aio

        async def handler(conn):
            async for message in conn:
                await conn.send(message)

        async def main():
            global server, conn, task
            server = await npipes.aio.serve(handler, sys.argv[1])
            conn = await npipes.aio.connect(sys.argv[1])
            assert await conn.call(b"x") == b"x"
            task = asyncio.create_task(conn.recv())
            await asyncio.sleep(0)
            if sys.argv[2] == "exit":
                sys.exit(0)

        try:
            asyncio.run(main())
        finally:
            print("done")
    """
    assert run_python(code, pipe_name, how) == "done\n"


def test_a_program_may_end_with_a_loop_that_was_never_closed(pipe_name):
    code = """
        import asyncio, sys, warnings, npipes, npipes.aio

        # A debug build shows that the loop was never closed, which it was not.
        warnings.simplefilter("ignore", ResourceWarning)

        async def handler(conn):
            async for message in conn:
                await conn.send(message)

        async def main():
            global server, conn
            server = await npipes.aio.serve(handler, sys.argv[1])
            conn = await npipes.aio.connect(sys.argv[1])
            assert await conn.call(b"x") == b"x"

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        print("done")
    """
    assert run_python(code, pipe_name) == "done\n"


def test_ctrl_c_ends_a_program_that_serves(pipe_name):
    code = """
        import asyncio, signal, sys, threading, npipes, npipes.aio

        def interrupt():
            if sys.platform == "win32":
                signal.raise_signal(signal.SIGINT)
            else:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        async def handler(conn):
            await conn.send(await conn.recv())

        async def main():
            async with npipes.aio.serve(handler, sys.argv[1]) as server:
                threading.Timer(0.3, interrupt).start()
                async with npipes.aio.connect(sys.argv[1]) as conn:
                    await server.serve_forever()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert run_python(code, pipe_name) == "interrupted\n"


def test_two_loops_in_two_threads_each_with_a_server(loops, new_name):
    names = [new_name(), new_name()]
    both = threading.Barrier(2, timeout=20)
    failures = []

    def run(mine, other):
        async def main():
            async with npipes.aio.serve(echo, mine):
                await in_thread(both.wait)
                async with npipes.aio.connect(mine) as a, npipes.aio.connect(other) as b:
                    for i in range(loops.scaled(300)):
                        assert await a.call(b"%d" % i) == b"%d" % i
                        assert await b.call(b"%d" % i) == b"%d" % i
                await in_thread(both.wait)

        try:
            loops.run(main)
        except BaseException as error:
            failures.append(error)

    # warnings.catch_warnings() of Loops.run is the main thread's; errors are enough here.
    threads = [threading.Thread(target=run, args=pair) for pair in (names, names[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_other_servers_of_the_process_are_untouched(loops, pipe_name, serve):
    server = serve(on_message=lambda conn, data, cookie: conn.write(data))

    async def main():
        async with echo_pair(pipe_name + "-aio") as (_, conn):
            async with npipes.aio.connect(server.address) as other:
                for i in range(100):
                    assert await conn.call(b"%d" % i) == await other.call(b"%d" % i)

    loops.run(main)
    with Client(server) as client:
        assert client.request(b"x") == b"x"


# ---- nothing is left -----------------------------------------------------


@linux_only
def test_descriptors_and_threads_return_to_where_they_were(loops, pipe_name):
    async def cycle():
        async with echo_pair(pipe_name) as (_, conn):
            assert await conn.call(b"x") == b"x"

    loops.run(cycle)
    descriptors, threads = descriptor_count(), thread_count()
    for _ in range(30):
        loops.run(cycle)
    assert descriptor_count() == descriptors
    assert eventually(lambda: thread_count() <= threads)


def test_connections_messages_and_handlers_are_let_go(loops, pipe_name):
    class Token:
        pass

    tokens = weakref.WeakSet()
    conns = weakref.WeakSet()

    async def handler(conn):
        token = Token()
        tokens.add(token)
        conns.add(conn)
        conn.custom_data = (token, conn)  # a cycle
        async for message in conn:
            await conn.send(message)

    async def main():
        async with npipes.aio.serve(handler, pipe_name) as server:
            for _ in range(20):
                async with npipes.aio.connect(pipe_name) as conn:
                    conns.add(conn)
                    assert await conn.call(bytes(100_000)) == bytes(100_000)
                    conn = None
            await until(lambda: not server.connections)

    loops.run(main)
    assert eventually(lambda: gc.collect() is not None and not tokens and not conns)


def test_a_loop_without_descriptors_uses_the_engines_thread(pipe_name):
    if WINDOWS:
        pytest.skip("there every loop is one")

    async def main():
        before = thread_count()
        async with npipes.aio.serve(echo, pipe_name):
            return thread_count() - before

    with asyncio.Runner(loop_factory=ThreadedLoop) as runner:
        assert runner.run(main()) == 1
    assert asyncio.run(main()) == 0
