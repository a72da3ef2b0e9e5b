"""Starting, stopping, starting again, being dropped, and the interpreter's exit."""

import contextlib
import gc
import threading
import time
import weakref

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    Log,
    descriptor_count,
    echo,
    eventually,
    linux_only,
    needs_names_of_ones_own,
    python_process,
    run_python,
    running,
    thread_count,
)

import npipes


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def finish(*threads):
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


# ---- start and stop ------------------------------------------------------


def test_start_and_stop_are_idempotent(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_ready"))
    assert server.stop() is None
    for count in (1, 2):
        assert not server.is_running
        assert server.start() is None
        assert server.start() is None
        assert server.is_running
        assert server.stop() is None
        assert server.stop() is None
        assert len(log.of("on_ready")) == count


def test_with_starts_and_stops_and_lets_exceptions_through(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    with server as entered:
        assert entered is server and server.is_running
        server.start()
    assert not server.is_running
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert not server.is_running
    with server:
        server.stop()
        assert not server.is_running


def test_a_server_serves_again_after_each_start(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, on_message=echo)
    for i in range(10):
        with running(server), Client(server) as client:
            assert client.request(b"%d" % i) == b"%d" % i
            assert server.stats.connections_total == 1      # of this run


def test_parameters_count_from_the_next_start_on(pipe_name, new_name):
    server = npipes.Server(pipe_name, free_threading_events=True, on_message=echo)
    with server:
        first = server.address
        server.name = new_name()
        server.max_message_size = 3
        assert server.address == first
        with Client(server) as client:
            assert client.request(b"12345") == b"12345"
    server.on_error = lambda conn, error: None
    with server:
        assert server.address != first
        with Client(server) as client:
            assert client.request(b"123") == b"123"
            client.send(b"12345")
            assert client.has_ended()


def test_stop_delivers_everything_that_is_due(pipe_name, free):
    """Nobody is inside run() here: stop() itself brings marshalled events."""
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers(
        "on_ready", "on_connected", "on_message", "on_disconnected", "on_error"))
    server.start()
    clients = [Client(server) for _ in range(5)]
    for client in clients:
        client.send(b"x" * 100_000)
    assert eventually(lambda: server.stats.messages_in == 5)
    server.stop()
    names = log.names()
    assert names.count("on_ready") == 1
    for name in ("on_connected", "on_message", "on_disconnected"):
        assert names.count(name) == 5
    assert not log.of("on_error")
    assert server.connections == []
    assert all(conn.error is None and not conn.is_connected for conn, in log.of("on_disconnected"))
    for client in clients:
        assert client.has_ended()
        client.close()


def test_stop_sends_what_can_go_out_at_once(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_connected"))
    with running(server):
        client = Client(server)
        ((conn,),) = log.wait("on_connected")
        conn.write(b"goodbye")
    assert client.receive() == b"goodbye"
    assert client.has_ended()
    client.close()


def test_stop_does_not_wait_for_a_peer_that_does_not_read(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free,
                           **log.handlers("on_connected", "on_error", "on_disconnected"))
    with running(server):
        client = Client(server)
        ((conn,),) = log.wait("on_connected")
        conn.write(bytes(20_000_000), cookie="big")
        begin = time.monotonic()
    assert time.monotonic() - begin < 4
    ((_, error),) = log.of("on_error")      # the cookie comes back
    assert isinstance(error, npipes.PipeError) and error.cookie == "big"
    client.close()


def test_stop_waits_for_a_handler_that_runs(pipe_name):
    inside, leave = threading.Event(), threading.Event()
    log = Log()

    def on_message(conn, data, cookie):
        inside.set()
        leave.wait(TIMEOUT)
        log.add("handled")

    server = npipes.Server(pipe_name, free_threading_events=True, on_message=on_message)
    server.start()
    with Client(server) as client:
        client.send(b"x")
        assert inside.wait(TIMEOUT)

        def stop():
            server.stop()
            log.add("stopped")

        threads = [in_thread(stop) for _ in range(3)]
        assert not eventually(lambda: log.entries, timeout=0.1)
        leave.set()
        finish(*threads)
    assert log.entries == [("handled",)] + [("stopped",)] * 3


def test_many_threads_may_start_and_stop_at_once(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, on_message=echo)
    problems = []

    def work(seed):
        for i in range(20):
            try:
                if (seed + i) % 2:
                    server.start()
                else:
                    server.stop()
            except RuntimeError as error:       # "another thread is starting this server"
                if "starting" not in str(error):
                    problems.append(error)
            except BaseException as error:
                problems.append(error)

    finish(*[in_thread(work, seed) for seed in range(6)])
    server.stop()
    assert not problems
    with running(server), Client(server) as client:
        assert client.request(b"x") == b"x"


def test_clients_that_come_and_go_do_not_disturb_stop(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, threads=2, on_message=echo)
    end = threading.Event()

    def client():
        while not end.is_set():
            try:
                with Client(server) as client:
                    client.request(b"x")
            except (OSError, EOFError, AssertionError):
                pass

    threads = [in_thread(client) for _ in range(3)]
    try:
        for _ in range(10):
            with running(server):
                assert eventually(lambda: server.stats.messages_out >= 3)
    finally:
        end.set()
        finish(*threads)


def test_a_start_that_fails_leaves_nothing_behind(pipe_name, free):
    needs_names_of_ones_own()
    with npipes.Server(pipe_name) as first:
        server = npipes.Server(pipe_name, free_threading_events=free)
        before = thread_count()
        for _ in range(5):
            with pytest.raises(FileExistsError):
                server.start()
        assert not server.is_running
        assert thread_count() == before
        assert first.is_running
    with server:
        assert server.is_running


def test_a_name_is_needed():
    for call in (npipes.Server, lambda: npipes.Server(threads=2)):
        with pytest.raises(TypeError, match="name"):
            call()
    with pytest.raises(TypeError, match="unexpected"):
        npipes.Server("x", no_such_parameter=1)


# ---- dropping ------------------------------------------------------------


def test_a_server_that_is_dropped_is_stopped(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free,
                           **log.handlers("on_connected", "on_disconnected"))
    server.start()
    gone = weakref.ref(server)
    with Client(server) as client:
        assert eventually(lambda: gone().stats.connections == 1)
        before = thread_count()
        del server
        assert gone() is None
        assert client.has_ended()
        assert WINDOWS or eventually(lambda: thread_count() < before)
    assert log.names() == ["on_connected", "on_disconnected"]
    ((conn,),) = log.of("on_disconnected")
    assert conn.server is None
    assert not conn.is_connected
    with pytest.raises(npipes.PipeClosedError):
        conn.write(b"x")
    with npipes.Server(pipe_name):      # the name is free
        pass


def test_a_subclass_whose_methods_are_handlers_is_dropped_without_gc(pipe_name):
    class Server(npipes.Server):
        def on_message(self, conn, data, cookie):
            conn.write(data)

    server = Server(pipe_name, free_threading_events=True)
    server.start()
    with Client(server) as client:
        client.request(b"x")
        gone = weakref.ref(server)
        gc.disable()
        try:
            del server
            assert gone() is None
        finally:
            gc.enable()
        assert client.has_ended()


def test_a_server_in_a_cycle_is_collected_and_stopped(pipe_name, free):
    log = Log()

    def make():
        server = npipes.Server(pipe_name, free_threading_events=free)

        @server.event
        def on_message(conn, data, cookie):
            server.broadcast(data)

        @server.event
        def on_disconnected(conn):
            log.add("on_disconnected", server.name, conn.custom_data)

        @server.event
        def on_connected(conn):
            conn.custom_data = conn     # a cycle of the connection's own

        server.start()
        return server

    server = make()
    address, gone = server.address, weakref.ref(server)
    with Client(address) as client:
        assert eventually(lambda: gone().stats.connections == 1)
        del server
        gc.collect()
        assert client.has_ended()
        gc.collect()
        assert gone() is None
    assert [name for name, _ in log.of("on_disconnected")] == [pipe_name]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_handler_may_drop_the_last_reference(pipe_name, threads):
    """On the server's own worker, which can't wait for itself: every event still comes."""
    log = Log()
    holder, dropped = {}, threading.Event()

    def on_message(conn, data, cookie):
        holder.clear()
        dropped.set()

    holder["server"] = npipes.Server(pipe_name, free_threading_events=True, threads=threads,
                                     on_message=on_message,
                                     **log.handlers("on_connected", "on_disconnected"))
    holder["server"].start()
    gone = weakref.ref(holder["server"])
    with Client(holder["server"]) as client, Client(holder["server"]) as other:
        log.wait("on_connected", 2)
        client.send(b"x")
        assert dropped.wait(TIMEOUT)
        assert client.has_ended() and other.has_ended()
    assert eventually(lambda: gone() is None)
    assert len(log.of("on_disconnected")) == 2
    with npipes.Server(pipe_name):
        pass


def test_a_server_dropped_while_run_waits_lives_until_it_returns(pipe_name):
    holder = [npipes.Server(pipe_name, on_message=echo)]
    holder[0].start()
    address, gone = holder[0].address, weakref.ref(holder[0])
    thread = in_thread(holder[0].run)
    with Client(address) as client:
        assert client.request(b"x") == b"x"
        holder.clear()
        gc.collect()
        assert client.request(b"y") == b"y"
        gone().stop()
        assert client.has_ended()
    finish(thread)
    del thread
    assert eventually(lambda: gone() is None)


def test_servers_and_connections_can_be_weakly_referenced_and_hashed(serve, connect):
    log = Log()
    server = serve(**log.handlers("on_connected", "on_disconnected"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    ref = weakref.ref(conn)
    table = {conn: "conn", server: "server"}
    assert table[ref()] == "conn" and table[server] == "server"
    client.close()
    log.wait("on_disconnected")
    del conn
    table.clear()
    log.entries.clear()
    assert eventually(lambda: ref() is None), "a connection that ended is still held"


def test_a_connection_outlives_its_server(pipe_name):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=True,
                           **log.handlers("on_connected", "on_disconnected"))
    server.start()
    with Client(server):
        ((conn,),) = log.wait("on_connected")
        conn.custom_data = "kept"
        server.stop()
    del server
    gc.collect()
    assert conn.server is None and conn.custom_data == "kept"
    assert conn.handle == 0 and conn.pending_bytes == 0 and not conn.is_opening
    conn.close()
    assert "closed" in repr(conn)


# ---- leaks ---------------------------------------------------------------


@linux_only
def test_fifty_starts_and_stops_leave_no_descriptor_and_no_thread(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free, threads=3, on_message=echo)

    def cycle():
        with running(server), Client(server) as client:
            assert client.request(b"x") == b"x"

    cycle()
    descriptors, threads = descriptor_count(), thread_count()
    for _ in range(50):
        cycle()
    assert descriptor_count() == descriptors
    # A thread that was joined may take a moment to leave the system's list.
    assert eventually(lambda: thread_count() == threads)


class Cookie:
    pass


@pytest.mark.parametrize("size", [10, 5000, 100_000])
def test_messages_cookies_and_connections_are_let_go(serve, free, size):
    log = Log()
    cookies, conns = weakref.WeakSet(), weakref.WeakSet()

    def on_connected(conn):
        conns.add(conn)

    def on_message(conn, data, cookie):
        cookie = Cookie()
        cookies.add(cookie)
        conn.write(data, cookie)

    server = serve(free_threading_events=free, on_connected=on_connected, on_message=on_message,
                   on_sent=lambda conn, cookie: log.add("on_sent"),
                   on_disconnected=lambda conn: log.add("on_disconnected"))
    with Client(server) as client:
        for _ in range(20):
            assert client.request(bytes(size)) == bytes(size)
        log.wait("on_sent", 20)
        assert eventually(lambda: not cookies)
    log.wait("on_disconnected")
    assert eventually(lambda: not conns)


def test_cookies_of_writes_that_fail_are_let_go(serve, free):
    log = Log()
    cookies = weakref.WeakSet()
    server = serve(free_threading_events=free, on_disconnected=lambda conn: log.add("end"),
                   on_connected=lambda conn: log.add("conn", conn), on_error=lambda *args: None)
    with Client(server):
        ((conn,),) = log.wait("conn")
        for _ in range(10):
            cookie = Cookie()
            cookies.add(cookie)
            conn.write(bytes(1_000_000), cookie)
        del cookie
    log.wait("end")
    assert eventually(lambda: not cookies)
    cookie = Cookie()
    cookies.add(cookie)
    with pytest.raises(npipes.PipeClosedError):
        conn.write(b"x", cookie)
    del cookie
    assert eventually(lambda: not cookies)


def test_large_payloads_are_let_go_once_they_are_sent(serve, connect, free):
    """A bytes object that write() holds instead of copying has its count back."""
    import sys

    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    client = connect(server)
    ((conn,),) = log.wait("on_connected")
    data = b"x" * 3_000_000
    before = sys.getrefcount(data)
    for count in range(1, 4):
        conn.write(data)
        assert len(client.receive()) == len(data)
        log.wait("on_sent", count)
        assert eventually(lambda: sys.getrefcount(data) == before)
    assert server.broadcast(data) == 1
    assert len(client.receive()) == len(data)
    assert eventually(lambda: sys.getrefcount(data) == before)


# ---- the interpreter's exit ----------------------------------------------

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
        processes = [stack.enter_context(python_process(EXIT, new_name(), state))
                     for state in states]
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
