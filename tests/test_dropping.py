"""A server that nobody holds any more stops by itself."""

import gc
import threading
import weakref

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    Log,
    echo,
    eventually,
    finish,
    in_thread,
    let_go,
    thread_count,
)

import npipes


def test_a_server_that_is_dropped_is_stopped(pipe_name, free):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=free, **log.handlers("on_connected", "on_disconnected"))
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
    with npipes.Server(pipe_name):  # the name is free
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


def test_a_subclass_with_a_del_of_its_own_is_stopped_all_the_same(pipe_name, free):
    log = Log()

    class Server(npipes.Server):
        def __del__(self):
            log.add("__del__")

    server = Server(pipe_name, free_threading_events=free, **log.handlers("on_connected", "on_disconnected"))
    server.start()
    with Client(server) as client:
        assert eventually(lambda: server.stats.connections == 1)  # noqa: F821
        del server
        assert client.has_ended()
        assert sorted(log.names()) == ["__del__", "on_connected", "on_disconnected"]


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
            conn.custom_data = conn  # a cycle of the connection's own

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

    holder["server"] = npipes.Server(
        pipe_name,
        free_threading_events=True,
        threads=threads,
        on_message=on_message,
        **log.handlers("on_connected", "on_disconnected"),
    )
    holder["server"].start()
    gone = weakref.ref(holder["server"])
    with Client(holder["server"]) as client, Client(holder["server"]) as other:
        log.wait("on_connected", 2)
        client.send(b"x")
        assert dropped.wait(TIMEOUT)
        assert client.has_ended() and other.has_ended()
    assert let_go(lambda: gone() is None)
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
    assert let_go(lambda: gone() is None)


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
    assert let_go(lambda: ref() is None), "a connection that ended is still held"


def test_a_connection_outlives_its_server(pipe_name):
    log = Log()
    server = npipes.Server(pipe_name, free_threading_events=True, **log.handlers("on_connected", "on_disconnected"))
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
