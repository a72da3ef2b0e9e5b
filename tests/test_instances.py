"""How many clients there may be at once, and what becomes of further ones."""

import threading

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    echo,
    eventually,
)


def test_of_a_pool_of_four_the_fifth_client_waits_until_one_leaves(serve, free):
    log = Log()
    server = serve(
        free_threading_events=free, max_instances=4, on_message=echo, **log.handlers("on_connected", "on_disconnected")
    )
    clients = [Client(server) for _ in range(4)]
    for i, client in enumerate(clients):
        assert client.request(b"%d" % i) == b"%d" % i
    results = []

    def wait_for_a_place(number):
        with Client(server) as client:
            results.append(client.request(b"waiter %d" % number))

    threads = [threading.Thread(target=wait_for_a_place, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    assert not eventually(lambda: len(log.of("on_connected")) > 4, timeout=0.2)
    assert server.stats.connections == 4
    clients.pop().close()  # one place, which the three take in turn
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert sorted(results) == [b"waiter 0", b"waiter 1", b"waiter 2"]
    assert server.stats.connections_total == 7
    for i, client in enumerate(clients):
        assert client.request(b"%d" % i) == b"%d" % i
        client.close()
    log.wait("on_disconnected", 7)


def test_a_place_is_free_again_whoever_ends_the_connection(serve):
    server = serve(max_instances=1, listeners=4, on_message=echo, max_message_size=100, on_error=lambda conn, error: None)
    for _ in range(5):
        with Client(server) as client:  # the client does
            assert client.request(b"x") == b"x"
        with Client(server) as client:  # the server does
            assert client.request(b"y") == b"y"
            for conn in server.connections:
                conn.close()
            assert client.has_ended()
        with Client(server) as client:  # an error does
            client.send(bytes(101))
            assert client.has_ended()
    assert server.stats.connections_total == 15


@pytest.mark.parametrize("listeners", [1, 2, 255])
def test_a_burst_of_clients_finds_a_place_with_any_number_of_listeners(serve, listeners):
    server = serve(listeners=listeners, on_message=echo)
    results = []

    def one():
        with Client(server) as client:
            results.append(client.request(b"x"))

    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert results == [b"x"] * 30
