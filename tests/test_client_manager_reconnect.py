"""reconnect=True: connections that are made again."""

import contextlib
import time

import pytest
from support import Log, echo, eventually, running

import npipes

ALL = ("on_connected", "on_message", "on_disconnected", "on_error")
SOON = (0.002, 0.02)


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def manager(manage, log, free):
    return manage(free_threading_events=free, reconnect=True, reconnect_delay=SOON, **log.handlers(*ALL))


def served(name, **options):
    options.setdefault("on_message", echo)
    return running(npipes.Server(name, free_threading_events=True, **options))


def test_a_server_that_is_started_again_is_connected_again(manager, log, pipe_name):
    conn = None
    for life in range(1, 4):
        with served(pipe_name):
            conn = conn or manager.connect(pipe_name)
            assert log.wait("on_connected", life) == [(conn,)] * life
            assert conn.is_connected and conn.error is None
            conn.write(b"%d" % life)
            assert log.wait("on_message", life)[-1] == (conn, b"%d" % life, None)
            peer = conn.peer
        log.wait("on_disconnected", life)
        assert conn.is_opening and not conn.is_connected
        assert peer.pid
    names = [name for name in log.names() if name != "on_message"]
    assert names[:6] == ["on_connected", "on_disconnected"] * 3
    assert manager.stats.connections_total == 3


def test_a_failure_is_reported_once_for_each_time_without_a_server(manager, log, pipe_name):
    conn = manager.connect(pipe_name, timeout=0)
    for time_without in (1, 2):
        log.wait("on_error", time_without)
        time.sleep(0.06)
        assert len(log.of("on_error")) == time_without
        assert isinstance(conn.error, npipes.PipeNotFoundError)
        assert conn.is_opening
        with served(pipe_name):
            log.wait("on_connected", time_without)
            # Under Windows one that came while the server before was stopping may have had more of them.
            assert eventually(lambda: conn.is_connected and conn.error is None)


def test_the_next_attempt_waits_for_on_disconnected(log, pipe_name):
    """Events that nobody takes do not pile up."""
    with (
        served(pipe_name, on_connected=lambda conn: conn.close()) as server,
        npipes.ClientManager(reconnect=True, reconnect_delay=SOON, **log.handlers(*ALL)) as manager,
    ):
        conn = manager.connect(pipe_name)
        assert eventually(lambda: server.stats.connections_total == 1)
        time.sleep(0.1)
        assert server.stats.connections_total == 1
        assert manager.stats.queued_events <= 3
        while len(log.of("on_connected")) < 3:
            manager.run(timeout=0.01)
        conn.close()


def test_close_ends_it_for_good(manager, log, pipe_name):
    with served(pipe_name):
        conn = manager.connect(pipe_name)
        log.wait("on_connected")
        conn.close()
        log.wait("on_disconnected")
        time.sleep(0.05)
        assert not conn.is_opening
        assert len(log.of("on_connected")) == 1


def test_close_while_it_waits_ends_it_too(manager, log, pipe_name):
    with served(pipe_name):
        conn = manager.connect(pipe_name)
        log.wait("on_connected")
    log.wait("on_disconnected")
    conn.close()
    assert not conn.is_opening
    with served(pipe_name):
        time.sleep(0.1)
    assert len(log.of("on_connected")) == 1


def test_a_handler_of_on_disconnected_may_close_for_good(manage, log, free, pipe_name):
    def on_disconnected(conn):
        conn.close()
        log.add("on_disconnected", conn)

    manager = manage(
        free_threading_events=free,
        reconnect=True,
        reconnect_delay=SOON,
        on_disconnected=on_disconnected,
        **log.handlers("on_connected"),
    )
    with served(pipe_name):
        manager.connect(pipe_name)
        log.wait("on_connected")
    log.wait("on_disconnected")
    with served(pipe_name):
        time.sleep(0.1)
    assert len(log.of("on_connected")) == 1


def test_stop_ends_it(manager, log, pipe_name):
    with served(pipe_name):
        connected = manager.connect(pipe_name)
        log.wait("on_connected")
        waiting = manager.connect(pipe_name + "-not", timeout=0)
        log.wait("on_error")
        manager.stop()
        assert len(log.of("on_disconnected")) == 1
        assert not connected.is_opening and not waiting.is_opening
        time.sleep(0.05)
        assert len(log.of("on_connected")) == 1


def test_what_was_not_handed_over_is_given_back(manage, pipe_name):
    log = Log()
    manager = manage(reconnect=True, reconnect_delay=SOON, **log.handlers("on_sent", *ALL))
    with served(pipe_name, continuous_read=False):
        conn = manager.connect(pipe_name)
        log.wait("on_connected")
        for cookie in range(20):
            conn.write(bytes(500_000), cookie=cookie)
    log.wait("on_disconnected")
    given = [cookie for _, cookie in log.of("on_sent")]
    given += [error.cookie for _, error in log.of("on_error") if error.cookie is not None]
    assert sorted(given) == list(range(20))
    assert conn.pending_bytes == 0
    with served(pipe_name):
        log.wait("on_connected", 2)
        conn.write(b"again")
        assert log.wait("on_message") == [(conn, b"again", None)]
        with contextlib.suppress(npipes.PipeError):
            conn.close()
