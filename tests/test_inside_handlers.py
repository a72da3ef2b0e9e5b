"""What a handler may do."""

import threading

import pytest
from support import TIMEOUT, Client, Log, echo, eventually, running

import npipes


@pytest.mark.parametrize("event", ["on_connected", "on_message", "on_sent"])
def test_a_handler_may_close_its_connection(serve, free, event):
    log = Log()

    def close(conn, *args):
        conn.close()
        conn.close()

    handlers = {"on_message": echo, **log.handlers("on_disconnected", "on_error"), event: close}
    server = serve(free_threading_events=free, **handlers)
    for count in range(1, 4):
        with Client(server) as client:
            if event != "on_connected":
                client.send(b"x")
            if event == "on_sent":
                assert client.receive() == b"x"
            assert client.has_ended()
            log.wait("on_disconnected", count)
    assert all(conn.error is None for (conn,) in log.of("on_disconnected"))
    assert not log.of("on_error")


def test_a_handler_may_close_and_write_to_other_connections(serve, connect, free):
    log = Log()

    def on_message(conn, data, cookie):
        for other in conn.server.connections:
            if other is not conn:
                other.write(data)
                other.close()

    server = serve(
        free_threading_events=free, threads=3, on_message=on_message, **log.handlers("on_connected", "on_disconnected")
    )
    clients = [connect(server) for _ in range(6)]
    log.wait("on_connected", 6)
    clients[0].send(b"bye")
    for client in clients[1:]:
        assert client.receive() == b"bye"
        assert client.has_ended()
    log.wait("on_disconnected", 5)
    assert len(server.connections) == 1


@pytest.mark.parametrize("event", ["on_ready", "on_connected", "on_message", "on_sent", "on_disconnected"])
def test_a_handler_may_stop_the_server(pipe_name, free, event):
    log = Log()

    def stop(*args):
        assert server.stop() is None  # returns at once, inside the handler
        log.add("stopping", server.is_running)

    handlers = {"on_message": echo, "on_disconnected": log.handler("on_disconnected"), event: stop}
    server = npipes.Server(pipe_name, free_threading_events=free, **handlers)
    server.start()
    thread = None
    if not free:
        thread = threading.Thread(target=server.run)
        thread.start()
    if event != "on_ready":
        with Client(server) as client:
            if event in ("on_message", "on_sent"):
                client.send(b"x")
            if event != "on_disconnected":
                assert eventually(client_has_ended(client))
    log.wait("stopping")
    server.stop()  # waits for the end, outside
    assert not server.is_running
    assert log.of("stopping") == [(False,)]
    if thread:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    if event not in ("on_ready", "on_disconnected"):
        assert len(log.of("on_disconnected")) == 1
    setattr(server, event, None)
    with running(server):  # and starts again
        assert server.is_running


def client_has_ended(client):
    """A condition: replies may still come before the end."""

    def condition():
        try:
            if client.connection.poll():
                client.connection.recv_bytes()
            return False
        except (EOFError, OSError):
            return True

    return condition


def test_a_handler_may_start_another_server_and_stop_it(serve, connect, new_name, free):
    other = npipes.Server(new_name(), free_threading_events=True, on_message=echo)

    def on_message(conn, data, cookie):
        if data == b"start":
            other.start()
            conn.write(other.address.encode())
        else:
            other.stop()
            conn.write(b"stopped" if not other.is_running else b"still running")

    client = connect(serve(free_threading_events=free, on_message=on_message))
    address = client.request(b"start").decode()
    with Client(address) as second:
        assert second.request(b"x") == b"x"
        assert client.request(b"stop") == b"stopped"
        assert second.has_ended()


def test_a_handler_may_not_start_its_own_server_while_it_stops(pipe_name, free):
    log = Log()

    def on_message(conn, data, cookie):
        server.stop()
        with pytest.raises(RuntimeError, match="handler"):
            server.start()
        log.add("done")

    server = npipes.Server(pipe_name, free_threading_events=free, on_message=on_message)
    with running(server), Client(server) as client:
        client.send(b"x")
        log.wait("done")


def test_a_handler_may_not_run_its_own_server(serve, connect, free):
    def on_message(conn, data, cookie):
        calls = [server.run, lambda: server.run(timeout=0)]
        if not free:
            calls += [server.dispatch, lambda: server.dispatch(timeout=None)]
        for call in calls:
            with pytest.raises(RuntimeError, match="inside"):
                call()
        conn.write(data)

    server = serve(free_threading_events=free, on_message=on_message)
    client = connect(server)
    assert client.request(b"x") == b"x"


def test_a_handler_may_use_everything_a_connection_has(serve, connect, free):
    log = Log()

    def on_message(conn, data, cookie):
        log.add(
            "state",
            conn.is_connected,
            conn.is_opening,
            conn.handle > 0,
            conn.error,
            conn.pending_bytes,
            conn.server is server,
            conn in server.connections,
        )
        conn.write(b"12345")
        log.add("pending", conn.pending_bytes >= 5)
        log.add("stats", server.stats.messages_in)

    server = serve(free_threading_events=free, on_message=on_message)
    client = connect(server)
    assert client.request(b"x") == b"12345"
    assert log.entries == [("state", True, False, True, None, 0, True, True), ("pending", True), ("stats", 1)]
