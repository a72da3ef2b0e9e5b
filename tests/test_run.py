"""The message loop: run, dispatch, quit, their timeouts, signals, and foreign loops."""

import ctypes
import select
import selectors
import signal
import threading
import time
from contextlib import suppress

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
    linux_only,
    python_process,
    reply,
    windows_only,
)

import npipes


@pytest.fixture
def server(pipe_name):
    """A started echo server whose events wait for run() or dispatch()."""
    with npipes.Server(pipe_name, on_message=reply) as server:
        yield server


def seconds(function, *args, **kwargs):
    begin = time.perf_counter()
    function(*args, **kwargs)
    return round(time.perf_counter() - begin, 3)


# ---- run and its end -----------------------------------------------------


def test_run_returns_when_its_time_is_up(server):
    assert 0.1 <= seconds(server.run, timeout=0.1) < 5


def test_run_with_free_threading_events_only_waits(pipe_name):
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as server:
        with Client(server) as client:
            assert client.request(b"before") == b"before"
            assert 0.1 <= seconds(server.run, timeout=0.1) < 5
            assert client.request(b"after") == b"after"


def test_run_with_no_time_delivers_what_is_there(server):
    with Client(server) as client:
        client.send(b"x")
        assert eventually(lambda: server.run(timeout=0) or client.connection.poll())
        assert client.receive() == b"x"
    assert seconds(server.run, timeout=0) < 5


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_negative_timeout_is_a_value_error(server, timeout):
    with pytest.raises(ValueError, match="timeout"):
        server.run(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        server.dispatch(timeout=timeout)


@pytest.mark.parametrize("timeout", ["1", [], b"1"])
def test_a_timeout_that_is_no_number_is_a_type_error(server, timeout):
    with pytest.raises(TypeError):
        server.run(timeout=timeout)
    with pytest.raises(TypeError):
        server.dispatch(timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 1e300, float("inf"), 10**6, True])
def test_quit_ends_run_from_another_thread_whatever_the_timeout(pipe_name, free, timeout):
    inside = threading.Event()
    with npipes.Server(pipe_name, free_threading_events=free, on_message=echo) as server:
        server.on_message = lambda *args: inside.set()

        def quitter():
            with Client(server) as client:
                client.send(b"x")
                inside.wait(TIMEOUT)
                server.quit()

        thread = threading.Thread(target=quitter)
        thread.start()
        assert seconds(server.run, timeout=timeout) < TIMEOUT
        thread.join(TIMEOUT)
        assert server.is_running


def test_quit_before_run_ends_the_next_run_only(pipe_name, free):
    with npipes.Server(pipe_name, free_threading_events=free) as server:
        server.quit()
        server.quit()
        assert seconds(server.run) < 5
        assert 0.05 <= seconds(server.run, timeout=0.05) < 5


def test_quit_in_a_handler_ends_run_after_what_came_with_it(server):
    log = Log()

    def on_message(conn, data, cookie):
        log.add(data)
        conn.write(data)
        if data == b"quit":
            server.quit()

    server.on_message = on_message
    with Client(server) as client:
        client.send(b"quit")
        server.run(timeout=TIMEOUT)
        assert log.entries == [(b"quit",)]
        assert client.receive() == b"quit"
        client.send(b"more")
        server.run(timeout=0.05)
        assert client.receive() == b"more"


def test_quit_does_nothing_to_a_server_that_never_started(pipe_name):
    npipes.Server(pipe_name).quit()


def test_quit_from_a_run_before_does_not_end_a_run_after_a_restart(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    server.start()
    server.quit()
    server.stop()
    with server:
        assert seconds(server.run, timeout=0.05) >= 0.05


def test_stop_from_another_thread_ends_run(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free,
                           **log.handlers("on_connected", "on_disconnected"))
    with server:
        def stopper():
            with Client(server):
                log.wait("on_connected")
                server.stop()
                log.add("stopped")

        thread = threading.Thread(target=stopper)
        thread.start()
        server.run()
        thread.join(TIMEOUT)
    assert log.names() == ["on_connected", "on_disconnected", "stopped"]


FLOOD = """
    import os, sys, threading
    import npipes

    name, clients, timeout = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with npipes.Server(name) as server:
        print(server.address, flush=True)
        while server.stats.connections < clients:
            server.run(timeout=0.01)
        try:
            print("flooded", flush=True)
            server.run(timeout=float(timeout) if timeout else None)
            print("returned", flush=True)
        except KeyboardInterrupt:
            print("KeyboardInterrupt", flush=True)
        os._exit(0)     # a flood is no reason for this test to take longer
"""


def flood(process, clients, after=lambda: None):
    """What a server under a flood of messages has to say when its run() returns."""
    address = process.stdout.readline().strip()

    def send():
        with suppress(OSError), Client(address) as client:
            while True:
                client.send(bytes(1000))

    threads = [threading.Thread(target=send) for _ in range(clients)]
    try:
        for thread in threads:
            thread.start()
        assert process.stdout.readline() == "flooded\n"
        after()
        return process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        for thread in threads:
            thread.join(TIMEOUT)


def test_a_timeout_holds_while_clients_flood_the_server(pipe_name):
    """The loop is never idle: that must not keep it from looking at the time."""
    with python_process(FLOOD, pipe_name, 3, "0.3") as process:
        assert flood(process, 3) == ("returned\n", "")


# ---- when it may not be called -------------------------------------------


def test_run_and_dispatch_need_a_server_that_runs(pipe_name, free):
    server = npipes.Server(pipe_name, free_threading_events=free)
    for call in (server.run, server.dispatch):
        with pytest.raises(RuntimeError, match="not running"):
            call()
    with server:
        pass
    for call in (server.run, server.dispatch):
        with pytest.raises(RuntimeError, match="not running"):
            call()


def test_only_one_thread_may_be_inside(server):
    inside, leave = threading.Event(), threading.Event()

    def on_message(conn, data, cookie):
        inside.set()
        leave.wait(TIMEOUT)
        conn.write(data)

    server.on_message = on_message
    thread = threading.Thread(target=server.run)
    thread.start()
    with Client(server) as client:
        client.send(b"x")
        assert inside.wait(TIMEOUT)
        for call in (server.run, server.dispatch):
            with pytest.raises(RuntimeError, match="inside"):
                call()
        leave.set()
        assert client.receive() == b"x"
    server.quit()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    server.run(timeout=0)       # free again


def test_threads_may_take_turns(server):
    with Client(server) as client:
        for i in range(10):
            thread = threading.Thread(target=server.run)
            thread.start()
            assert client.request(b"%d" % i) == b"%d" % i
            server.quit()
            thread.join(TIMEOUT)
            assert not thread.is_alive()


# ---- dispatch ------------------------------------------------------------


def test_dispatch_delivers_what_waits_and_tells_how_much(pipe_name):
    log = Log()
    names = ("on_ready", "on_connected", "on_message")
    with npipes.Server(pipe_name, **log.handlers(*names)) as server:
        with Client(server) as client:
            for i in range(50):
                client.send(b"%d" % i)
            assert eventually(lambda: server.stats.queued_events == 52)
            assert not log.entries, "events came outside dispatch()"
            assert server.dispatch() == 52
            assert server.stats.queued_events == 0
            assert [data for _, data, _ in log.of("on_message")] == [b"%d" % i for i in range(50)]
            assert server.dispatch() == 0


def test_dispatch_with_a_timeout_waits_for_something(server):
    while server.dispatch(timeout=0.05):
        pass
    assert 0.1 <= seconds(server.dispatch, timeout=0.1) < 5
    with Client(server) as client:
        assert server.dispatch(timeout=TIMEOUT) >= 1        # connected
        client.send(b"x")
        assert server.dispatch(timeout=None) >= 1
        assert client.receive() == b"x"


def test_replies_of_dispatch_go_out_at_its_end(server):
    with Client(server) as client:
        client.send(b"x")
        assert eventually(lambda: server.stats.messages_in == 1)
        assert not client.connection.poll()
        server.dispatch()
        assert client.receive() == b"x"


def test_stats_and_the_io_go_on_while_nobody_is_inside(server):
    """Clients are accepted and their messages taken by the worker."""
    clients = [Client(server) for _ in range(5)]
    for client in clients:
        client.send(b"x" * 100_000)
    assert eventually(lambda: server.stats.messages_in == 5)
    assert server.stats.connections == 5
    for client in clients:
        assert eventually(lambda c=client: server.run(timeout=0) or c.connection.poll())
        assert len(client.receive()) == 100_000
    assert eventually(lambda: server.stats.messages_out == 5)
    for client in clients:
        client.close()


def test_a_client_that_left_long_ago_ended_orderly(pipe_name):
    """Events that wait longer than the 5 s a close lingers are no failure of the peer's."""
    log = Log()
    names = ("on_message", "on_disconnected", "on_error")
    with npipes.Server(pipe_name, **log.handlers(*names)) as server:
        with Client(server) as client:
            client.send(b"goodbye")
        assert not eventually(lambda: server.stats.errors, timeout=5.5)
        assert eventually(lambda: server.dispatch() is None or log.of("on_disconnected"))
        assert log.names() == ["on_message", "on_disconnected"]
        ((conn,),) = log.of("on_disconnected")
        assert conn.error is None


# ---- foreign loops -------------------------------------------------------


@linux_only
@pytest.mark.parametrize("kind", ["DefaultSelector", "SelectSelector", "PollSelector"])
def test_a_selector_can_wait_for_events(server, kind):
    with getattr(selectors, kind)() as selector, Client(server) as client:
        selector.register(server, selectors.EVENT_READ)      # fileno()
        while selector.select(0.05):
            server.dispatch()
        for i in range(5):
            client.send(b"%d" % i)
            assert selector.select(TIMEOUT)
            assert server.dispatch() == 1
            assert client.receive() == b"%d" % i
            assert not selector.select(0)


@linux_only
def test_the_descriptor_stays_readable_until_all_is_dispatched(server):
    with Client(server) as client:
        client.send(b"x")
        assert eventually(lambda: server.stats.queued_events == 3)
        assert select.select([server], [], [], TIMEOUT)[0]
        assert select.select([server], [], [], 0)[0]
        server.dispatch()
        assert not select.select([server], [], [], 0)[0]


@linux_only
def test_the_descriptor_is_there_while_marshalled_events_run_only(pipe_name):
    server = npipes.Server(pipe_name)
    with pytest.raises(RuntimeError, match="not running"):
        server.fileno()
    with server:
        assert server.fileno() == server.fileno() > 2
    with pytest.raises(RuntimeError, match="not running"):
        server.fileno()
    server.free_threading_events = True
    with server, pytest.raises(RuntimeError, match="free_threading_events"):
        server.fileno()


@linux_only
def test_linux_has_no_wait_handle(server):
    assert server.wait_handle is None


@linux_only
def test_an_asyncio_loop_can_watch_the_descriptor(server):
    import asyncio

    async def main():
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(server.fileno(), server.dispatch)
        loop.add_reader(client.connection.fileno(), done.set)
        client.send(b"x")
        await asyncio.wait_for(done.wait(), TIMEOUT)
        loop.remove_reader(client.connection.fileno())
        loop.remove_reader(server.fileno())

    with Client(server) as client:
        asyncio.run(main())
        assert client.receive() == b"x"


@windows_only
def test_windows_can_wait_for_the_handle(server):
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    wait_object_0, wait_timeout = 0, 258

    def wait(milliseconds):
        return kernel32.WaitForSingleObject(server.wait_handle, milliseconds)

    with Client(server) as client:
        while wait(50) == wait_object_0:
            server.dispatch()
        for i in range(5):
            client.send(b"%d" % i)
            assert wait(int(TIMEOUT * 1000)) == wait_object_0
            assert server.dispatch() == 1
            assert client.receive() == b"%d" % i
            assert wait(0) == wait_timeout


@windows_only
def test_the_wait_handle_is_there_while_marshalled_events_run_only(pipe_name):
    server = npipes.Server(pipe_name)
    assert server.wait_handle is None
    with server:
        assert server.wait_handle > 0
        with pytest.raises(NotImplementedError, match="wait_handle"):
            server.fileno()
    assert server.wait_handle is None
    server.free_threading_events = True
    with server:
        assert server.wait_handle is None


# ---- signals -------------------------------------------------------------


def test_an_interrupt_inside_a_handler_ends_run(server):
    server.on_message = lambda conn, data, cookie: signal.raise_signal(signal.SIGINT)
    with Client(server) as client:
        client.send(b"x")
        with pytest.raises(KeyboardInterrupt):
            server.run(timeout=TIMEOUT)
    assert server.is_running


SERVER_IN_RUN = """
    import os, signal, sys, threading
    import npipes

    name, how = sys.argv[1:3]
    server = npipes.Server(name, free_threading_events=how.startswith("free"))
    with server:
        if "handler" in how:
            signal.signal(signal.SIGTERM, lambda *_: server.quit())
        try:
            print(server.address, flush=True)
            if "dispatch" in how:
                while True:
                    server.dispatch(timeout=None)
            server.run()
            print("returned")
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
"""


@linux_only
@pytest.mark.parametrize("how", ["free", "run", "dispatch"])
def test_ctrl_c_ends_run_and_dispatch(pipe_name, how):
    with python_process(SERVER_IN_RUN, pipe_name, how) as process:
        with Client(process.stdout.readline().strip()):
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (0, "KeyboardInterrupt\n", "")


@linux_only
@pytest.mark.parametrize("how", ["free handler", "run handler"])
def test_a_signal_handler_may_quit(pipe_name, how):
    with python_process(SERVER_IN_RUN, pipe_name, how) as process:
        with Client(process.stdout.readline().strip()):
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (0, "returned\n", "")


@linux_only
def test_ctrl_c_ends_run_under_a_flood_that_no_handler_sees(pipe_name):
    """No Python code runs that would look for signals by itself."""
    with python_process(FLOOD, pipe_name, 3, "") as process:
        said = flood(process, 3, lambda: process.send_signal(signal.SIGINT))
        assert said == ("KeyboardInterrupt\n", "")


def test_a_signal_raised_in_another_thread_reaches_a_handler_of_run(server):
    """raise_signal marks the signal; run() looks for it at the latest with the next event."""
    log = Log()
    old = signal.signal(signal.SIGINT, lambda *_: (log.add("signal"), server.quit()))
    try:
        def raiser():
            signal.raise_signal(signal.SIGINT)
            client.send(b"x")

        with Client(server) as client:
            thread = threading.Thread(target=raiser)
            thread.start()
            server.run(timeout=TIMEOUT)
            thread.join(TIMEOUT)
    finally:
        signal.signal(signal.SIGINT, old)
    assert log.entries == [("signal",)]


@windows_only
def test_ctrl_c_wakes_run_on_windows(server):
    thread = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        server.run(timeout=TIMEOUT)
    thread.join(TIMEOUT)
    assert server.is_running


@linux_only
def test_other_threads_signals_do_not_end_the_wait_early(server):
    """A signal with a handler that does nothing leaves the timeout alone."""
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        timers = [threading.Timer(i / 50, signal.pthread_kill,
                                  [threading.main_thread().ident, signal.SIGUSR1])
                  for i in range(5)]
        for timer in timers:
            timer.start()
        assert seconds(server.run, timeout=0.3) >= 0.3
        for timer in timers:
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
