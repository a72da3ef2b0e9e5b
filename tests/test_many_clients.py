"""A thousand clients at once."""

import contextlib
import select
import socket
import threading

import pytest
from support import TIMEOUT, WINDOWS, Client, Log, echo, eventually, frame, linux_only, raw_client

MANY = 200 if WINDOWS else 1000


@pytest.fixture
def descriptors():
    """Linux: room for both ends of so many connections."""
    if WINDOWS:
        yield
        return
    import resource

    needed = 2 * MANY + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"the system allows {hard} descriptors, not {needed}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("threads", [1, 4])
def test_many_clients_are_served_at_once(serve, descriptors, free, threads):
    log = Log()
    server = serve(free_threading_events=free, threads=threads, on_message=echo, **log.handlers("on_disconnected"))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(MANY)]
        assert eventually(lambda: len(server.connections) == MANY)
        for round in range(3):
            for i, client in enumerate(clients):
                client.send(b"%d %d" % (round, i))
            for i, client in enumerate(clients):
                assert client.receive() == b"%d %d" % (round, i)
        assert server.broadcast(b"to all") == MANY
        assert [client.receive() for client in clients] == [b"to all"] * MANY
        assert server.stats.connections == MANY
    log.wait("on_disconnected", MANY)
    assert eventually(lambda: server.stats.connections == 0 and server.connections == [])
    assert all(conn.error is None for (conn,) in log.of("on_disconnected"))


def test_stop_ends_all_of_them(serve, descriptors, free):
    log = Log()
    server = serve(free_threading_events=free, threads=2, on_message=echo, **log.handlers("on_connected", "on_disconnected"))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(MANY)]
        log.wait("on_connected", MANY)
        server.stop()
        assert len(log.of("on_disconnected")) == MANY
        assert all(client.has_ended() for client in clients)


def test_clients_that_come_and_go_leave_nothing(serve, free):
    log = Log()
    server = serve(free_threading_events=free, threads=2, on_message=echo, **log.handlers("on_disconnected"))

    def work():
        for i in range(50):
            with Client(server) as client:
                assert client.request(b"%d" % i) == b"%d" % i

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    log.wait("on_disconnected", 300)
    stats = server.stats
    assert (stats.connections_total, stats.messages_in, stats.messages_out) == (300, 300, 300)
    assert eventually(lambda: server.stats.connections == 0)


@linux_only
def test_a_queue_of_clients_passes_through_a_small_pool(serve, descriptors, free):
    """All connect at once; the system holds those that wait for one of four places."""
    server = serve(free_threading_events=free, max_instances=4, on_message=echo)
    waiting = [raw_client(server) for _ in range(200)]
    for i, client in enumerate(waiting):
        client.sendall(frame(b"%d" % i))
    poller = select.poll()
    by_fd = {client.fileno(): (i, client) for i, client in enumerate(waiting)}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    while by_fd:
        ready = poller.poll(TIMEOUT * 1000)
        assert ready, f"{len(by_fd)} clients were never served"
        for fd, _ in ready:
            i, client = by_fd.pop(fd)
            assert client.recv(100) == frame(b"%d" % i)
            poller.unregister(fd)
            client.close()
    assert server.stats.connections_total == 200


@linux_only
def test_running_out_of_descriptors_is_survived(serve, connect):
    """accept() fails for a while: an error event, and no spinning; then all are served."""
    import errno
    import resource

    log = Log()
    server = serve(on_message=echo, **log.handlers("on_error"))
    first = connect(server)
    assert first.request(b"x") == b"x"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sockets = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for client in sockets:
            client.settimeout(TIMEOUT)
            client.connect(server.address)
        ((conn, error), *_) = log.wait("on_error")
        assert conn is None and error.operation == "accept"
        assert error.errno == errno.EMFILE
        assert first.request(b"still here") == b"still here"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for client in sockets:
        client.sendall(frame(b"late"))
        assert client.recv(100) == frame(b"late")
        client.close()
    assert len(log.of("on_error")) < 200
