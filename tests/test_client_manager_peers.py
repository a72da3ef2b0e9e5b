"""Managers and servers that are not npipes': the standard library's, and raw ones."""

import multiprocessing.connection
import os
import pickle
import socket

import pytest
from support import (
    FAMILY,
    Log,
    eventually,
    finish,
    frame,
    in_thread,
    linux_only,
    receive_frame,
)

import npipes

ALL = ("on_connected", "on_message", "on_disconnected", "on_error")


@pytest.fixture
def log():
    return Log()


def test_a_listener_of_the_standard_library_is_a_server(manage, log, free, pipe_name):
    def serve():
        with listener.accept() as connection:
            for _ in range(3):
                connection.send_bytes(connection.recv_bytes()[::-1])

    with multiprocessing.connection.Listener(npipes.address(pipe_name), FAMILY) as listener:
        thread = in_thread(serve)
        manager = manage(free_threading_events=free, **log.handlers(*ALL))
        conn = manager.connect(pipe_name)
        log.wait("on_connected")
        conn.write_many([b"abc", b"x" * 300_000, b"xyz"])
        log.wait("on_message", 3)
        finish(thread)
        log.wait("on_disconnected")
    assert [data for _, data, _ in log.of("on_message")] == [b"cba", b"x" * 300_000, b"zyx"]
    assert conn.error is None and not log.of("on_error")


def test_objects_of_the_standard_library_arrive_as_bytes(manage, log, pipe_name):
    def serve():
        with listener.accept() as connection:
            connection.send({"a": [1, 2]})
            connection.send_bytes(b"")
            connection.send_bytes(b"last")

    with multiprocessing.connection.Listener(npipes.address(pipe_name), FAMILY) as listener:
        thread = in_thread(serve)
        manage(**log.handlers(*ALL)).connect(pipe_name)
        first, empty, last = [data for _, data, _ in log.wait("on_message", 3)]
        finish(thread)
    assert pickle.loads(first) == {"a": [1, 2]}
    assert (empty, last) == (b"", b"last")


def test_a_hundred_clients_of_a_listener(manage, log, pipe_name):
    def serve():
        for _ in range(100):
            connection = listener.accept()
            connection.send_bytes(b"welcome")
            accepted.append(connection)

    accepted = []
    listener = multiprocessing.connection.Listener(npipes.address(pipe_name), FAMILY, backlog=5)
    with listener:
        thread = in_thread(serve)
        manager = manage(**log.handlers(*ALL))
        for _ in range(100):
            manager.connect(pipe_name, timeout=60)
        log.wait("on_message", 100)
        finish(thread)
        for connection in accepted:
            connection.close()
        log.wait("on_disconnected", 100)
    assert not log.of("on_error")


# ---- a socket of one's own -----------------------------------------------


@pytest.fixture
def listener(pipe_name):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(npipes.address(pipe_name))
        listener.listen()
        listener.settimeout(20)
        yield listener
    os.unlink(npipes.address(pipe_name))


@linux_only
def test_a_frame_may_come_byte_by_byte(manage, log, listener, pipe_name):
    manage(**log.handlers(*ALL)).connect(pipe_name)
    peer, _ = listener.accept()
    with peer:
        for byte in frame(b"hello"):
            peer.sendall(bytes([byte]))
        assert [data for _, data, _ in log.wait("on_message")] == [b"hello"]


@linux_only
def test_what_is_written_is_framed(manage, listener, pipe_name):
    manage(on_connected=lambda conn: conn.write(b"hello")).connect(pipe_name)
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(20)
        assert receive_frame(peer) == b"hello"


@linux_only
@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\xff\xff\xff\xf0", npipes.ProtocolError),
        (b"\x7f\xff\xff\xff", npipes.MessageTooLargeError),
        (frame(b"hello")[:6], npipes.PipeResetError),
        (b"\0\0", npipes.PipeResetError),
    ],
)
def test_a_server_can_do_nothing_worse_than_end_its_connection(manage, log, listener, pipe_name, sent, error):
    manager = manage(**log.handlers(*ALL))
    bad, good = manager.connect(pipe_name), manager.connect(pipe_name)
    peer, _ = listener.accept()
    other, _ = listener.accept()
    with peer, other:
        peer.sendall(sent)
        peer.close()
        [(ended,)] = log.wait("on_disconnected")
        assert isinstance(ended.error, error)
        other.sendall(frame(b"still here"))
        assert [data for _, data, _ in log.wait("on_message")] == [b"still here"]
        assert {bad, good} - {ended} == set(manager.connections)


@linux_only
def test_a_server_that_never_reads_stalls_only_itself(manage, log, listener, pipe_name):
    manager = manage(max_pending_bytes=1 << 20, max_message_size=1 << 20, **log.handlers(*ALL))
    conn = manager.connect(pipe_name)
    peer, _ = listener.accept()
    log.wait("on_connected")
    with peer:
        with pytest.raises(npipes.QueueFullError):
            for _ in range(100):
                conn.write(bytes(100_000))
        assert conn.pending_bytes > 500_000
        other = manager.connect(pipe_name)
        second, _ = listener.accept()
        with second:
            log.wait("on_connected", 2)
            other.write(b"hello", cookie=1)
            second.settimeout(20)
            assert receive_frame(second) == b"hello"
    assert eventually(lambda: not conn.is_connected)
