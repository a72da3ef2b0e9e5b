"""Connections that a manager makes: their events, and what they can be asked."""

import os
import threading
import time
import weakref

import pytest
from support import WINDOWS, Log, echo, eventually, finish, in_thread

import npipes

ALL = ("on_connected", "on_message", "on_sent", "on_disconnected", "on_error")


def test_a_client_has_the_events_of_a_server(serve, manage, free, pipe_name):
    log = Log()
    serve(on_message=echo)
    manager = manage(free_threading_events=free, on_ready=log.handler("on_ready"), **log.handlers(*ALL))
    conn = manager.connect(pipe_name)
    assert log.wait("on_connected") == [(conn,)]
    conn.write(b"hello", cookie="one")
    assert log.wait("on_message") == [(conn, b"hello", None)]
    assert log.wait("on_sent") == [(conn, "one")]
    conn.close()
    assert log.wait("on_disconnected") == [(conn,)]
    manager.stop()
    assert log.names()[0] == "on_ready" and log.names().count("on_ready") == 1
    assert log.names()[1] == "on_connected" and log.names()[-1] == "on_disconnected"
    assert not log.of("on_error") and conn.error is None


def test_connect_returns_before_anything_has_happened(serve, pipe_name):
    """Events of a manager made with the defaults come inside run()."""
    log = Log()
    serve(on_message=echo)
    with npipes.ClientManager(**log.handlers(*ALL)) as manager:
        conn = manager.connect(pipe_name)
        assert isinstance(conn, npipes.ClientConnection)
        assert conn.is_opening or conn.is_connected
        assert not log.entries
        assert eventually(lambda: conn.is_connected)
        assert not log.entries
        manager.run(timeout=0.01)
        assert log.of("on_connected") == [(conn,)]


def test_the_first_connect_starts_the_manager(serve, pipe_name):
    serve()
    connected = threading.Event()
    manager = npipes.ClientManager(free_threading_events=True, on_connected=lambda conn: connected.set())
    assert not manager.is_running
    manager.connect(pipe_name)
    assert manager.is_running
    assert connected.wait(20)
    manager.stop()
    assert not manager.is_running
    connected.clear()
    manager.connect(pipe_name)
    assert connected.wait(20)
    manager.stop()


def test_threads_may_make_the_first_connection_together(serve, pipe_name):
    serve()
    log = Log()
    manager = npipes.ClientManager(free_threading_events=True, threads=4, **log.handlers("on_ready", "on_connected"))
    finish(*[in_thread(manager.connect, pipe_name) for _ in range(8)])
    log.wait("on_connected", 8)
    manager.stop()
    assert len(log.of("on_ready")) == 1


def test_a_connection_tells_of_itself(serve, manage, pipe_name):
    log = Log()
    server = serve()
    manager = manage(on_connected=log.handler("on_connected"))
    conn = manager.connect(pipe_name)
    log.wait("on_connected")
    assert conn.manager is manager
    assert conn.address == server.address
    assert conn.is_connected and not conn.is_opening
    assert conn.handle > 0 and conn.pending_bytes == 0
    assert conn.peer.pid == os.getpid()
    assert WINDOWS or conn.peer.uid == os.getuid()
    assert conn.error is None and conn.custom_data is None
    conn.custom_data = {"seen": 1}
    assert conn.custom_data == {"seen": 1}
    assert server.address in repr(conn) and "ClientConnection" in repr(conn)
    assert hash(conn) == hash(conn) and weakref.ref(conn)() is conn
    assert manager.connections == [conn]
    assert manager.stats.connections == manager.stats.connections_total == 1
    conn.close()
    assert eventually(lambda: manager.connections == [])
    assert conn.handle == 0 and not conn.is_connected


def test_a_name_may_be_an_address_or_a_path(serve, manage, pipe_name):
    log = Log()
    server = serve()
    manager = manage(on_connected=log.handler("on_connected"))
    manager.connect(server.address)
    log.wait("on_connected", 1)
    if not WINDOWS:

        class Path:
            def __fspath__(self):
                return server.address

        manager.connect(Path())
        log.wait("on_connected", 2)


def test_handlers_may_be_methods_and_decorated_functions(serve, pipe_name):
    serve(on_message=echo)
    log = Log()

    class Client(npipes.ClientManager):
        def on_connected(self, conn):
            assert conn.manager is self
            conn.write(b"hello")

        def on_message(self, conn, data, cookie):
            log.add("message", data)

    with Client(free_threading_events=True) as manager:

        @manager.event
        def on_disconnected(conn):
            log.add("disconnected", conn)

        conn = manager.connect(pipe_name)
        assert log.wait("message") == [(b"hello",)]
    assert log.of("disconnected") == [(conn,)]


def test_one_manager_talks_to_several_servers(serve, manage, new_name):
    names = [new_name() for _ in range(5)]
    for name in names:
        serve(name, on_message=lambda conn, data, cookie, name=name: conn.write(name.encode()))
    log = Log()
    manager = manage(on_message=log.handler("on_message"), on_connected=lambda conn: conn.write(b"who?"))
    conns = {manager.connect(name): name.encode() for name in names}
    answers = {conn: data for conn, data, _ in log.wait("on_message", len(names))}
    assert answers == conns


def test_messages_come_in_lists_where_they_are_wanted_so(serve, manage, pipe_name):
    received = []
    done = threading.Event()

    def on_messages(conn, messages):
        received.extend(messages)
        if len(received) == 100:
            done.set()

    serve(on_message=echo)
    manager = manage(on_messages=on_messages)
    manager.on_connected = lambda conn: conn.write_many([b"%d" % i for i in range(100)])
    manager.connect(pipe_name)
    assert done.wait(20)
    assert received == [b"%d" % i for i in range(100)]


def test_more_than_both_ends_hold_is_echoed(serve, manage, free, pipe_name):
    """The server does not read while too much waits for the client, so the client must."""
    done = threading.Event()
    sizes = []

    def on_message(conn, data, cookie):
        sizes.append(len(data))
        if len(sizes) == 20:
            done.set()

    serve(on_message=echo)
    manager = manage(free_threading_events=free, on_message=on_message)
    manager.on_connected = lambda conn: conn.write_many([bytes(2_000_000)] * 20)
    manager.connect(pipe_name)
    assert done.wait(20)
    assert sizes == [2_000_000] * 20


def test_on_drained_tells_when_to_write_on(serve, manage, free, pipe_name):
    log = Log()
    serve(on_message=log.handler("on_message"))
    manager = manage(free_threading_events=free, write_high_water=1 << 20, on_drained=log.handler("on_drained"))
    manager.on_connected = lambda conn: conn.write(bytes(10_000_000))
    conn = manager.connect(pipe_name)
    assert log.wait("on_drained") == [(conn,)]
    log.wait("on_message")


def test_read_asks_for_one_message(serve, manage, free, pipe_name):
    log = Log()
    serve(on_connected=lambda conn: conn.write_many([b"1", b"2", b"3"]))
    manager = manage(free_threading_events=free, continuous_read=False, **log.handlers("on_connected", "on_message"))
    conn = manager.connect(pipe_name)
    log.wait("on_connected")
    time.sleep(0.05)
    assert not log.of("on_message")
    conn.read(cookie="a")
    assert log.wait("on_message") == [(conn, b"1", "a")]


def test_a_byte_stream_is_a_mode_of_clients_too(serve, manage, pipe_name):
    received = bytearray()
    serve(mode="byte", on_message=echo)
    manager = manage(mode="byte", on_message=lambda conn, data, cookie: received.extend(data))
    manager.on_connected = lambda conn: conn.write(b"hello")
    manager.connect(pipe_name)
    assert eventually(lambda: received == b"hello")


def test_broadcast_writes_to_what_is_connected(serve, manage, new_name, pipe_name):
    log = Log()
    serve(on_message=log.handler("on_message"))
    manager = manage(on_connected=log.handler("on_connected"))
    for _ in range(3):
        manager.connect(pipe_name)
    manager.connect(new_name(), timeout=None)
    log.wait("on_connected", 3)
    assert manager.broadcast(b"news") == 3
    assert [data for _, data, _ in log.wait("on_message", 3)] == [b"news"] * 3


def test_a_foreign_loop_learns_of_events(serve, pipe_name):
    log = Log()
    serve(on_message=echo)
    with npipes.ClientManager(**log.handlers("on_connected")) as manager:
        assert manager.dispatch() in (0, 1)  # on_ready, which has no handler
        manager.connect(pipe_name)
        if WINDOWS:
            assert manager.wait_handle
        else:
            assert manager.fileno() >= 0
        while not log.of("on_connected"):
            manager.dispatch(timeout=1)


# ---- parameters ----------------------------------------------------------


def test_parameters_are_attributes_with_their_defaults():
    manager = npipes.ClientManager()
    assert manager.server_owner is None
    assert manager.reconnect is False
    assert manager.reconnect_delay == (0.05, 5.0)
    assert manager.free_threading_events is False
    assert manager.max_message_size == 64 << 20
    manager = npipes.ClientManager(server_owner="user", reconnect=True, reconnect_delay=[1, 2], threads=3, spin_us=5)
    assert manager.server_owner == "user" and manager.reconnect is True
    assert manager.reconnect_delay == (1.0, 2.0) and manager.threads == 3 and manager.spin_us == 5


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"server_owner": "root"}),
        (ValueError, {"server_owner": 0}),
        (ValueError, {"reconnect_delay": (0, 1)}),
        (ValueError, {"reconnect_delay": (2, 1)}),
        (ValueError, {"reconnect_delay": (float("nan"), 1)}),
        (ValueError, {"reconnect_delay": (1, float("inf"))}),
        (TypeError, {"reconnect_delay": 1}),
        (TypeError, {"reconnect_delay": (1, "2")}),
        (TypeError, {"authkey": "secret"}),
        (ValueError, {"authkey": b""}),
        (TypeError, {"max_handshakes": 5}),
        (TypeError, {"name": "demo"}),
        (TypeError, {"access": "user"}),
        (TypeError, {"listeners": 8}),
        (TypeError, {"max_instances": 4}),
        (TypeError, {"on_message": 5}),
    ],
)
def test_parameters_that_cannot_be_are_refused(error, options):
    with pytest.raises(error, match=next(iter(options))):
        npipes.ClientManager(**options)


def test_nothing_is_given_by_position():
    with pytest.raises(TypeError, match="ClientManager"):
        npipes.ClientManager("demo")
    with npipes.ClientManager() as manager, pytest.raises(TypeError):
        manager.connect("demo", 1)


def test_connections_are_made_by_managers_only():
    for cls in (npipes.ClientConnection, npipes.ServerConnection):
        with pytest.raises(TypeError):
            cls()
