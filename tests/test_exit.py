"""The interpreter exits whatever a server is doing."""

import contextlib

import pytest
from support import (
    TIMEOUT,
    python_process,
    run_python,
)

EXIT = """
    import sys, threading, time
    import npipes
    from multiprocessing.connection import Client

    name, state = sys.argv[1:3]
    free = "free" in state
    events = []
    connected = threading.Event()

    def on_connected(conn):
        events.append(conn)
        connected.set()

    def on_message(conn, data, cookie):
        connected.set()
        threading.Event().wait()        # for ever

    def on_disconnected(conn):
        print("disconnected", flush=True)

    ready = threading.Event()
    server = npipes.Server(name, free_threading_events=free, on_ready=ready.set,
                           on_connected=on_connected, on_disconnected=on_disconnected)
    if "never started" not in state:
        server.start()
    if "in run" in state:
        threading.Thread(target=server.run, daemon=True).start()
        ready.wait(10)
    if "client" in state:
        client = Client(server.address)
        if free or "in run" in state:
            connected.wait(10)
        if "writing" in state:
            events[0].write(bytes(20_000_000))
            server.on_error = lambda conn, error: print(type(error).__name__, flush=True)
        if "blocked" in state:
            connected.clear()
            server.on_message = on_message
            client.send_bytes(b"x")
            connected.wait(10)
        if "undelivered" in state:
            client.send_bytes(b"x")
            while server.stats.queued_events < 3:
                time.sleep(0.001)
    if "stopped" in state:
        server.stop()
    if "handler kept" in state:
        import builtins
        builtins.kept = server
    print("end", flush=True)
    if "raising" in state:
        raise SystemExit(0)
"""


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("never started", "end"),
        ("free", "end"),
        ("marshalled", "end"),
        ("free stopped client", "disconnected end"),
        ("free client", "end disconnected"),
        ("free client raising", "end disconnected"),
        ("free client handler kept", "end disconnected"),
        ("marshalled client undelivered", "end disconnected"),
        ("marshalled in run", "end"),
        ("marshalled in run client", "end disconnected"),
        ("free client writing", "end disconnected"),
        ("marshalled in run client writing", "end disconnected"),
    ],
)
def test_the_interpreter_exits_whatever_a_server_is_doing(pipe_name, state, said):
    assert run_python(EXIT, pipe_name, state, timeout=TIMEOUT).split() == said.split()


def test_a_handler_that_never_returns_keeps_no_interpreter_from_exiting(new_name):
    states = ["free client blocked", "marshalled in run client blocked"]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(python_process(EXIT, new_name(), state)) for state in states]
        for process in processes:
            assert process.communicate(timeout=TIMEOUT) == ("end\n", "")
            assert process.returncode == 0


def test_an_exit_handler_may_use_its_server(pipe_name):
    code = """
        import atexit, sys
        import npipes

        server = npipes.Server(sys.argv[1], free_threading_events=True)
        server.start()

        @atexit.register
        def end():
            print(server.is_running, server.broadcast(b"bye"))
            server.stop()
            print(server.is_running)
    """
    assert run_python(code, pipe_name).split() == ["True", "0", "False"]


def test_the_module_can_be_imported_and_dropped_without_a_server():
    assert run_python("import npipes, sys; del npipes; sys.modules.clear()") == ""
