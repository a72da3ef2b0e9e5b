"""The pytest plugin: its fixtures serve tests of others, and tell them what went wrong."""

import importlib
import shutil
from pathlib import Path

import pytest
from support import WINDOWS, is_wine, linux_only, run_module, run_python

pytest_plugins = "pytester"

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLE = PROJECT / "docs" / "examples" / "integration_test"


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs a test file with pytest; what came out."""
    if WINDOWS and is_wine():
        # The interpreter's DLL is of a later patch than its library, where this call fails.
        monkeypatch.setattr(importlib, "invalidate_caches", lambda: None)

    def run(code, *args, ini="asyncio_mode = strict"):
        pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{ini}\n")
        pytester.makepyfile(code)
        # In this process: what other plugins of ours do there is not for the tests of others.
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)

    return run


def test_a_server_and_a_client(run):
    run(
        """
        import npipes

        def test_function(pipe_server, pipe_client):
            server = pipe_server(lambda conn, data, cookie: conn.write(data.upper()))
            assert pipe_client(server).call(b"hello", timeout=10) == b"HELLO"
            assert pipe_client(server.address, timeout=3).call(b"x", timeout=10) == b"X"

        class Counter(npipes.Server):
            def __init__(self, name, first=0):
                super().__init__(name)
                self.count = first

            def on_message(self, conn, data, cookie):
                self.count += 1
                conn.write(b"%d" % self.count)

        def test_subclass(pipe_server, pipe_client, pipe_name):
            server = pipe_server(Counter, pipe_name, first=5)
            assert server.name == pipe_name and server.is_running
            assert pipe_client(pipe_name).call(b"", timeout=10) == b"6"

        def test_options(pipe_server, pipe_client):
            server = pipe_server(lambda conn, data, cookie: conn.write(b"%d" % len(data)), authkey=b"k",
                                 threads=2)
            assert pipe_client(server, authkey=b"k").call(b"abc", timeout=10) == b"3"

        def test_names(pipe_name, pipe_server):
            one, other = pipe_server(), pipe_server()
            assert len({pipe_name, one.name, other.name}) == 3

        def test_events_that_the_test_runs(pipe_server, pipe_client):
            server = pipe_server(lambda conn, data, cookie: (conn.write(data), server.quit()),
                                 free_threading_events=False)
            client = pipe_client(server)
            client.send_bytes(b"x")
            server.run(10)
            assert client.recv_bytes(timeout=10) == b"x"
        """
    ).assert_outcomes(passed=5)


def test_what_a_handler_raises_fails_the_test(run):
    result = run(
        """
        import npipes, pytest

        def fail(conn, data, cookie):
            try:
                raise ZeroDivisionError("in the handler")
            finally:
                conn.write(b"done")

        class Failing(npipes.Server):
            def on_message(self, conn, data, cookie):
                conn.write(data)
                raise LookupError("in the subclass")

        def test_function(pipe_server, pipe_client):
            pipe_client(pipe_server(fail)).call(b"x", timeout=10)

        def test_subclass(pipe_server, pipe_client):
            pipe_client(pipe_server(Failing)).call(b"x", timeout=10)

        def test_expected(pipe_server, pipe_client):
            pipe_client(pipe_server(fail)).call(b"x", timeout=10)
            while not (errors := pipe_server.taken_errors()):
                pass
            assert isinstance(errors[0], ZeroDivisionError)
        """
    )
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: in the handler*"])
    result.stdout.fnmatch_lines(["*LookupError: in the subclass*"])


ASYNCHRONOUS = """
    import asyncio, pytest

    {mark}

    async def echo(conn):
        async for message in conn:
            await conn.send(message)

    async def test_echo(aio_pipe_server, aio_pipe_client):
        async with aio_pipe_server(echo) as server, aio_pipe_client(server) as conn:
            assert await conn.call(b"hello") == b"hello"

    async def test_events(aio_pipe_server, aio_pipe_client, pipe_name):
        def answer(conn, data):
            conn.send_nowait(data[::-1])

        async with aio_pipe_server(name=pipe_name, on_message=answer):
            async with aio_pipe_client(pipe_name) as conn:
                assert await conn.call(b"abc") == b"cba"

    async def test_a_blocking_server(pipe_server, aio_pipe_client):
        server = pipe_server(lambda conn, data, cookie: conn.write(data))
        async with aio_pipe_client(server) as conn:
            assert await conn.call(b"x") == b"x"

    async def test_failing(aio_pipe_server, aio_pipe_client):
        async def fail(conn):
            await conn.recv()
            raise ZeroDivisionError("in the coroutine")

        async with aio_pipe_server(fail) as server, aio_pipe_client(server) as conn:
            await conn.send(b"x")
            with pytest.raises(EOFError):
                await conn.recv()

    async def test_not_closed(aio_pipe_server):
        await aio_pipe_server(echo)
"""
MARKS = {
    "pytest-asyncio": ("pytestmark = pytest.mark.asyncio", "asyncio_mode = strict"),
    "pytest-asyncio, auto": ("", "asyncio_mode = auto"),
    "anyio": (
        "pytestmark = pytest.mark.anyio\n\n    @pytest.fixture\n    def anyio_backend():\n        return 'asyncio'",
        "asyncio_mode = strict",
    ),
}


@pytest.mark.parametrize("kind", MARKS)
def test_asynchronous_tests_with(kind, run):
    mark, ini = MARKS[kind]
    ini += "\nnpipes_leak_check = true"
    result = run(ASYNCHRONOUS.format(mark=mark), "-k", "not not_closed", ini=ini)
    result.assert_outcomes(passed=4, errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: in the coroutine*"])


def test_an_asynchronous_server_that_is_open_is_named(run):
    mark, ini = MARKS["pytest-asyncio"]
    result = run(ASYNCHRONOUS.format(mark=mark), "-k", "not_closed", ini=ini + "\nnpipes_leak_check = false")
    result.assert_outcomes(passed=1, errors=1, deselected=4)
    result.stdout.fnmatch_lines(["*npipes.aio.Server*was not closed: enter it with async with*"])


LEAKS = """
    import socket, threading, npipes, npipes_pytest.leaks

    npipes_pytest.leaks._PATIENCE = 0.2
    kept = []

    def test_server(pipe_name, pipe_leak_check):
        kept.append(npipes.Server(pipe_name))
        kept[0].start()

    def test_client(pipe_server):
        kept.append(npipes.connect(pipe_server().address))

    def test_listener(pipe_name, pipe_leak_check):
        kept.append(npipes.Listener(pipe_name))

    def test_thread(pipe_server):
        event = threading.Event()
        kept.append(event)
        threading.Thread(target=event.wait, name="forgotten", daemon=True).start()

    def test_nothing(pipe_server, pipe_client):
        pipe_client(pipe_server())

    def teardown_module():
        for thing in kept:
            for end in ("stop", "close", "set"):
                getattr(thing, end, lambda: None)()
"""


def test_what_is_left_is_named(run):
    result = run(LEAKS)
    result.assert_outcomes(passed=5, errors=4)
    for line in ("*left behind: *Server*", "*left behind: *Client*", "*left behind: *Listener*"):
        result.stdout.fnmatch_lines([line])
    result.stdout.fnmatch_lines(["*left behind: thread forgotten*"])


def test_the_check_can_be_turned_off(run):
    result = run(LEAKS, "-k", "client or test_thread", ini="npipes_leak_check = false")
    result.assert_outcomes(passed=2, deselected=3)


@linux_only
def test_a_socket_file_that_is_left_is_named(run):
    result = run(
        """
        import os, socket, npipes, npipes_pytest.leaks

        npipes_pytest.leaks._PATIENCE = 0.2

        def test_file(pipe_name, pipe_leak_check):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(npipes.address(pipe_name))
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left behind: socket file *"])


# ---- the rest of an environment ------------------------------------------


def test_a_run_without_the_fixtures_does_not_import_npipes(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "npipes_pytest" in sys.modules
            assert not [name for name in sys.modules if name.split(".")[0] == "npipes"]
        """
    )
    # A process of its own: here npipes is imported already.
    done = run_module(pytester.path, "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_takes_little_time_to_import():
    """Beside what pytest imports anyhow.  The bound is generous: it is about some milliseconds."""
    code = """
        import time, pytest
        begin = time.process_time()
        import npipes_pytest
        assert time.process_time() - begin < 0.1
        import sys
        assert "npipes" not in sys.modules
    """
    run_python(code)


def test_the_example_project_passes(tmp_path):
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    done = run_module(project, "pytest", "-q", "-p", "no:cacheprovider", timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
