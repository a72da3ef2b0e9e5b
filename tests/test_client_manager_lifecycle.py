"""The end of a manager and of its connections, pending ones included."""

import gc
import time
import weakref

import pytest
from raw_server import fill, silent_server
from support import (
    Log,
    descriptor_count,
    echo,
    eventually,
    finish,
    in_thread,
    linux_only,
    run_python,
    seconds,
    thread_count,
    unraisable,
)

import npipes

ALL = ("on_connected", "on_message", "on_disconnected", "on_error")


def test_stop_cancels_what_is_pending(free, new_name):
    log = Log()
    manager = npipes.ClientManager(free_threading_events=free, **log.handlers(*ALL))
    full, nobody = new_name(), new_name()
    with silent_server(npipes.address(full)):
        if free:
            fill(manager, full)
        errors = len(log.of("on_error"))
        conns = [manager.connect(name, timeout=None) for name in [full, nobody] * 50]
        time.sleep(0.02)
        pending = [conn for conn in conns if conn.is_opening]
        assert len(pending) > 90
        assert seconds(manager.stop) < 5
        assert not any(conn.is_opening or conn.is_connected or conn.error for conn in conns)
        assert len(log.of("on_error")) == errors


def test_stop_delivers_every_on_disconnected(serve, pipe_name, free):
    log = Log()
    serve(on_message=echo)
    manager = npipes.ClientManager(free_threading_events=free, **log.handlers(*ALL))
    conns = [manager.connect(pipe_name) for _ in range(20)]
    assert eventually(lambda: all(conn.is_connected for conn in conns))
    manager.stop()
    assert sorted(map(id, conns)) == sorted(id(conn) for (conn,) in log.of("on_disconnected"))
    assert len(log.of("on_connected")) == 20
    assert manager.connections == []


def test_connections_that_are_closed_at_once_begin_and_end_or_do_neither(serve, manage, free, pipe_name):
    """Whatever an attempt has come to when its connection is closed."""
    log = Log()
    server = serve(on_message=echo)
    manager = manage(free_threading_events=free, **log.handlers(*ALL))
    conns = [manager.connect(pipe_name) for _ in range(50)]
    for conn in conns:
        conn.close()
    for _ in range(50):
        conns.append(manager.connect(pipe_name))
        conns[-1].close()
    last = manager.connect(pipe_name)
    assert eventually(lambda: last.is_connected)
    last.write(b"x")
    assert log.wait("on_message")[0][:2] == (last, b"x")
    assert eventually(lambda: len(server.connections) == 1)
    manager.stop()
    begun = [id(conn) for (conn,) in log.of("on_connected")]
    ended = [id(conn) for (conn,) in log.of("on_disconnected")]
    assert sorted(begun) == sorted(ended) and len(set(begun)) == len(begun) and id(last) in begun
    assert not any(conn.is_opening or conn.is_connected for conn in conns)
    assert not log.of("on_error")


def test_stop_while_another_thread_connects(serve, pipe_name):
    serve()
    for _ in range(20):
        manager = npipes.ClientManager(free_threading_events=True)
        manager.start()

        def connect(manager=manager):
            try:
                for _ in range(20):
                    manager.connect(pipe_name)
            except RuntimeError as error:
                assert "stopping" in str(error)

        thread = in_thread(connect)
        manager.stop()
        finish(thread)
        manager.stop()


def test_a_manager_that_is_dropped_is_stopped(serve, pipe_name, new_name):
    log = Log()
    serve()
    manager = npipes.ClientManager(free_threading_events=True, **log.handlers(*ALL))
    conn = manager.connect(pipe_name)
    pending = manager.connect(new_name(), timeout=None)
    log.wait("on_connected")
    del manager
    gc.collect()
    assert len(log.wait("on_disconnected")) == 1
    assert conn.manager is None and not conn.is_connected and not pending.is_opening
    with pytest.raises(npipes.PipeClosedError):
        conn.write(b"x")


def test_a_manager_in_a_cycle_with_its_connection_is_stopped(new_name):
    manager = npipes.ClientManager(free_threading_events=True)
    manager.connect(new_name(), timeout=None).custom_data = manager
    dropped = weakref.ref(manager)
    del manager
    gc.collect()
    assert dropped() is None


@linux_only
def test_managers_leave_no_descriptor_and_no_thread(serve, free, pipe_name, new_name):
    server = serve(on_message=echo)

    def cycle():
        log = Log()
        with npipes.ClientManager(free_threading_events=free, threads=3, reconnect=True, **log.handlers(*ALL)) as manager:
            conns = [manager.connect(pipe_name) for _ in range(3)]
            manager.connect(new_name(), timeout=None)
            assert eventually(lambda: all(conn.is_connected for conn in conns))
            conns[0].close()
        # The server's ends close when it has seen the clients' end.
        assert eventually(lambda: server.stats.connections == 0)

    cycle()
    descriptors, threads = descriptor_count(), thread_count()
    for _ in range(20):
        cycle()
    assert descriptor_count() == descriptors
    assert eventually(lambda: thread_count() <= threads)


def test_a_connection_nobody_keeps_goes_on(serve, manage, pipe_name):
    log = Log()
    serve(on_message=echo)
    manager = manage(on_connected=lambda conn: conn.write(b"hello"), **log.handlers("on_message"))
    manager.connect(pipe_name)
    gc.collect()
    [(conn, data, _)] = log.wait("on_message")
    assert data == b"hello"
    ended = weakref.ref(conn)
    conn.close()
    assert eventually(lambda: not manager.connections)
    del conn
    log.entries.clear()
    assert eventually(lambda: gc.collect() is not None and ended() is None)


# ---- handlers ------------------------------------------------------------


def test_a_handler_that_raises_harms_nothing_else(serve, manage, free, pipe_name):
    log = Log()
    serve(on_message=echo)

    def on_connected(conn):
        conn.write(b"hello")
        raise ValueError("of the handler")

    with unraisable() as caught:
        manager = manage(free_threading_events=free, on_connected=on_connected, **log.handlers("on_message"))
        conn = manager.connect(pipe_name)
        assert log.wait("on_message") == [(conn, b"hello", None)]
    assert [str(error) for error, _ in caught] == ["of the handler"]


def test_a_handler_may_connect_and_close(serve, manage, free, pipe_name):
    log = Log()
    serve()

    def on_connected(conn):
        log.add("on_connected", conn)
        if len(log.of("on_connected")) < 10:
            conn.manager.connect(pipe_name)
        conn.close()

    manage(free_threading_events=free, on_connected=on_connected, on_disconnected=log.handler("on_disconnected")).connect(
        pipe_name
    )
    log.wait("on_disconnected", 10)


def test_a_handler_of_an_error_may_connect_again(serve, manage, free, pipe_name, new_name):
    log = Log()
    serve()
    manager = manage(
        free_threading_events=free,
        on_connected=log.handler("on_connected"),
        on_error=lambda conn, error: conn.manager.connect(pipe_name),
    )
    manager.connect(new_name(), timeout=0)
    log.wait("on_connected")


def test_a_handler_may_stop_its_manager(serve, free, pipe_name, new_name):
    log = Log()
    serve()

    def on_connected(conn):
        conn.manager.stop()
        log.add("on_connected", conn)
        with pytest.raises(RuntimeError, match="stopping"):
            conn.manager.connect(pipe_name)
        log.add("refused")

    manager = npipes.ClientManager(
        free_threading_events=free, on_connected=on_connected, on_disconnected=log.handler("on_disconnected")
    )
    pending = manager.connect(new_name(), timeout=None)
    conn = manager.connect(pipe_name)
    manager.run(timeout=20)
    log.wait("refused")
    assert log.wait("on_disconnected") == [(conn,)]
    assert not pending.is_opening
    manager.stop()
    manager.on_connected = log.handler("on_connected")
    manager.connect(pipe_name)
    manager.run(timeout=0.05)
    log.wait("on_connected", 2)
    manager.stop()


def test_threads_may_write_to_one_connection(serve, manage, pipe_name):
    received = []
    serve(on_message=lambda conn, data, cookie: received.append(data))
    connected = Log()
    manager = manage(on_connected=connected.handler("on_connected"))
    conn = manager.connect(pipe_name)
    connected.wait("on_connected")

    def write(thread):
        for number in range(200):
            conn.write(b"%d %d" % (thread, number))

    finish(*[in_thread(write, thread) for thread in range(4)])
    assert eventually(lambda: len(received) == 800)
    for thread in range(4):
        mine = [data for data in received if data.startswith(b"%d " % thread)]
        assert mine == [b"%d %d" % (thread, number) for number in range(200)]


# ---- the process ---------------------------------------------------------

EXIT = """
    import sys, threading, time
    import npipes

    name, state = sys.argv[1:3]
    free = "free" in state
    server = npipes.Server(name, free_threading_events=True)
    server.start()
    connected = threading.Event()
    manager = npipes.ClientManager(
        free_threading_events=free,
        reconnect="reconnect" in state,
        on_connected=lambda conn: connected.set(),
        on_disconnected=lambda conn: print("disconnected", flush=True),
        on_error=lambda conn, error: print(error.operation, flush=True),
    )
    if "pending" in state:
        pending = manager.connect(name + "-not", timeout=None)
    if "live" in state:
        conn = manager.connect(name)
        connected.wait(10) if free else manager.run(timeout=0.1)
    if "kept by builtins" in state:
        import builtins
        builtins.kept = manager
"""


@pytest.mark.parametrize(
    "state",
    [
        "free live",
        "free pending",
        "free live pending",
        "run live pending",
        "run pending",
        "free live pending reconnect",
        "run live pending kept by builtins",
    ],
)
def test_the_interpreter_exits_with_connections(state, pipe_name):
    out = run_python(EXIT, pipe_name, state)
    assert out.split() == (["disconnected"] if "live" in state else [])


FORK = """
    import os, sys, warnings
    import npipes

    warnings.simplefilter("ignore")
    name, free = sys.argv[1], sys.argv[2] == "True"
    got = []
    server = npipes.Server(name, free_threading_events=True,
                           on_message=lambda conn, data, cookie: conn.write(data))
    server.start()
    manager = npipes.ClientManager(free_threading_events=free,
                                   on_message=lambda conn, data, cookie: got.append(data))
    live = manager.connect(name)
    pending = manager.connect(name + "-not", timeout=None)

    def talk(data):
        while not live.is_connected:
            manager.run(timeout=0.01)
        live.write(data)
        while data not in got:
            manager.run(timeout=0.01)

    def raises(error, function, *args):
        try:
            function(*args)
        except error as e:
            return str(e)
        raise AssertionError(f"{function} did not raise {error}")

    talk(b"before")
    handle = live.handle
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not manager.is_running
            assert not live.is_connected and not live.is_opening and live.handle == 0
            assert not pending.is_opening
            assert "parent" in raises(npipes.PipeClosedError, live.write, b"x")
            assert "parent" in raises(RuntimeError, manager.connect, name)
            assert "parent" in raises(RuntimeError, manager.run)
            live.close()
            pending.close()
            manager.stop()
            try:
                os.fstat(handle)
                raise AssertionError("the child has the parent's socket")
            except OSError:
                pass
            mine = npipes.ClientManager(free_threading_events=True)
            conn = mine.connect(name)
            while not conn.is_connected:
                pass
            mine.stop()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    talk(b"after")
    manager.stop()
    server.stop()
    print("done")
"""


@linux_only
def test_a_child_of_fork_has_dead_connections(free, pipe_name):
    assert run_python(FORK, pipe_name, free) == "done\n"
