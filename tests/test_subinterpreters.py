"""Subinterpreters, each with a module of its own, and from 3.13 on a GIL of its own."""

import contextlib
import importlib
import sys
import textwrap

import pytest
from support import WINDOWS, eventually, finish, in_thread, run_python

import npipes

interpreters = None
for module in "_interpreters", "_xxsubinterpreters":
    if not interpreters:
        with contextlib.suppress(ImportError):
            interpreters = importlib.import_module(module)
pytestmark = [
    pytest.mark.skipif(not interpreters, reason="this interpreter has no module that makes others"),
    pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="npipes refuses 3.12's, which are isolated"),
]
before_3_13 = pytest.mark.skipif(sys.version_info < (3, 13), reason="before 3.13 a program must have destroyed them")

CONVERSATION = """
    import npipes

    with npipes.Listener({name!r}) as listener, npipes.connect({name!r}) as client, listener.accept(timeout=20) as other:
        for i in range({count}):
            client.send_bytes(b"%d" % i)
            assert other.recv_bytes(timeout=20) == b"%d" % i
            other.send_bytes(b"!")
            assert client.recv_bytes(timeout=20) == b"!"
"""


def run_inside(code, **values):
    """Runs a program in a subinterpreter of its own, which ends with it."""
    code = f"import sys\nsys.path[:] = {sys.path!r}\n" + textwrap.dedent(code).format(**values)
    here = interpreters.create()
    try:
        failure = interpreters.run_string(here, code)  # before 3.13 it raises
        assert not failure, failure
    finally:
        interpreters.destroy(here)


def test_a_subinterpreter_has_listeners_and_clients(pipe_name):
    for _ in range(3):
        run_inside(CONVERSATION, name=pipe_name, count=10)


def test_interpreters_talk_to_each_other(pipe_name):
    with npipes.Server(pipe_name, free_threading_events=True) as server:
        server.on_message = lambda conn, data, cookie: conn.write(data[::-1])
        run_inside(
            """
            import npipes

            with npipes.connect({name!r}) as client:
                assert client.call(b"abc", timeout=20) == b"cba"
        """,
            name=pipe_name,
        )
        assert server.stats.messages_in == 1


def test_interpreters_do_not_share_objects_or_ends(new_name):
    """Several at once, which end while others go on."""
    names = [new_name() for _ in range(4)]
    failures = []

    def live(name):
        try:
            for _ in range(3):
                run_inside(CONVERSATION, name=name, count=30)
        except BaseException as error:
            failures.append(error)

    finish(*[in_thread(live, name) for name in names])
    assert not failures


def test_what_has_threads_is_refused(pipe_name):
    run_inside(
        """
        import npipes

        for start in npipes.Server({name!r}).start, lambda: npipes.ClientManager().connect({name!r}):
            try:
                start()
            except RuntimeError as error:
                assert "main interpreter" in str(error), error
            else:
                raise AssertionError("it started")
    """,
        name=pipe_name,
    )


def test_a_subinterpreter_may_end_with_everything_still_open(pipe_name):
    inside = """
        import npipes

        client = npipes.connect({name!r})
        assert client.call(b"x", timeout=20) == b"x"
        listener = npipes.Listener({name!r} + "-inside")
    """
    with npipes.Server(pipe_name, free_threading_events=True) as server:
        server.on_message = lambda conn, data, cookie: conn.write(data)
        for _ in range(3):
            run_inside(inside, name=pipe_name)
        assert eventually(lambda: not server.connections)


@before_3_13
def test_a_program_may_exit_with_subinterpreters(pipe_name):
    program = f"""
        import sys, warnings
        import {interpreters.__name__} as interpreters
        import npipes

        warnings.filterwarnings("ignore", "remaining subinterpreters")
        with npipes.Server(sys.argv[1], free_threading_events=True) as server:
            server.on_message = lambda conn, data, cookie: conn.write(data)
            for i in range(2):
                here = interpreters.create()
                interpreters.run_string(here, "import sys; sys.path[:] = " + repr(sys.path))
                failure = interpreters.run_string(here, f'''if True:
                    import npipes
                    client = npipes.connect({{sys.argv[1]!r}})
                    assert client.call(b"x", timeout=20) == b"x"
                    listener = npipes.Listener({{sys.argv[1] + str(i)!r}})
                ''')
                assert not failure, failure
        print("ok")
    """
    assert run_python(program, pipe_name).split() == ["ok"]


@pytest.mark.skipif(WINDOWS, reason="asyncio's own loop runs in the main interpreter only")
def test_asyncio_in_a_subinterpreter(pipe_name):
    run_inside(
        """
        import asyncio
        import npipes.aio

        async def echo(conn):
            async for message in conn:
                await conn.send(message)

        async def main():
            async with npipes.aio.serve(echo, {name!r}), npipes.aio.connect({name!r}) as conn:
                for i in range(20):
                    await conn.send(b"%d" % i)
                    assert await conn.recv() == b"%d" % i

        asyncio.run(main())
    """,
        name=pipe_name,
    )
