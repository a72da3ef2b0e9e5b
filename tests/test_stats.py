"""The counters of a server."""

from support import (
    Client,
    Log,
    echo,
    eventually,
    running,
)

import npipes


def test_stats_count_payloads(serve, free):
    log = Log()
    server = serve(free_threading_events=free, on_message=echo, **log.handlers("on_sent", "on_disconnected"))
    assert isinstance(server.stats, npipes.Stats)
    assert server.stats[:7] == (0,) * 7
    with Client(server) as client:
        for size in (1, 1000, 100_000):
            client.request(bytes(size))
        log.wait("on_sent", 3)
        stats = server.stats
        assert (stats.connections, stats.connections_total) == (1, 1)
        assert (stats.messages_in, stats.messages_out) == (3, 3)
        assert (stats.bytes_in, stats.bytes_out) == (101_001, 101_001)
        assert (stats.queued_bytes, stats.queued_events, stats.errors) == (0, 0, 0)
    log.wait("on_disconnected")
    assert eventually(lambda: server.stats.connections == 0)
    assert server.stats.connections_total == 1


def test_a_server_that_runs_again_counts_anew(pipe_name):
    server = npipes.Server(pipe_name, on_message=echo)
    for _ in range(2):
        with running(server), Client(server) as client:
            client.request(b"x")
            assert server.stats.messages_in == 1
        assert server.stats.messages_in == 1  # of the last run
