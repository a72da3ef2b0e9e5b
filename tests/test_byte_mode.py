"""mode="byte": a stream without boundaries, on a raw socket or a pipe of bytes."""

import os
import socket
import threading

import pytest
from support import TIMEOUT, WINDOWS, Log, echo, eventually, linux_only, raw_client

import npipes


class Stream:
    """A client of bytes on both systems."""

    def __init__(self, server):
        if WINDOWS:
            self.file = open(server.address, "r+b", buffering=0)
        else:
            self.socket = raw_client(server)

    def send(self, data):
        if WINDOWS:
            self.file.write(data)
        else:
            self.socket.sendall(data)

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.file.read(count - len(data)) if WINDOWS else self.socket.recv(65536)
            assert part, "the end came early"
            data += part
        return data

    def close(self):
        self.file.close() if WINDOWS else self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def joined(log):
    return b"".join(data for _, data, _ in log.of("on_message"))


@pytest.mark.parametrize("size", [1, 127, 128, 4096, 100_000])
def test_bytes_come_back_in_order(serve, free, size):
    server = serve(mode="byte", free_threading_events=free, on_message=echo)
    assert server.mode == "byte"
    with Stream(server) as client:
        for _ in range(5):
            data = os.urandom(size)
            client.send(data)
            assert client.receive(size) == data


@linux_only
def test_a_long_stream_comes_back_while_it_is_sent(serve, free):
    server = serve(mode="byte", free_threading_events=free, on_message=echo)
    data = os.urandom(5_000_000)
    with Stream(server) as client:
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        assert client.receive(len(data)) == data
        sender.join(TIMEOUT)
        assert not sender.is_alive()


def test_a_message_is_what_arrived(serve, free):
    log = Log()
    server = serve(mode="byte", free_threading_events=free, **log.handlers("on_message"))
    with Stream(server) as client:
        for i, part in enumerate((b"\0\0\0\5", b"hello", b"\xff\xff\xff\xfe", b"!"), 1):
            client.send(part)
            assert eventually(lambda i=i: len(log.of("on_message")) == i)
    assert [data for _, data, _ in log.of("on_message")] == [b"\0\0\0\5", b"hello", b"\xff\xff\xff\xfe", b"!"]


def test_what_is_written_has_no_frame(serve, free):
    log = Log()
    server = serve(mode="byte", free_threading_events=free, **log.handlers("on_connected", "on_sent"))
    with Stream(server) as client:
        ((conn,),) = log.wait("on_connected")
        for part in (b"one", b"two", b"", b"x" * 100_000):
            conn.write(part, cookie=len(part))
        assert client.receive(100_006) == b"onetwo" + b"x" * 100_000
    assert [cookie for _, cookie in log.wait("on_sent", 3)] == [3, 3, 100_000]
    assert server.stats.bytes_out == 100_006


def test_no_length_is_too_large(serve, free):
    log = Log()
    server = serve(
        mode="byte", free_threading_events=free, max_message_size=10, **log.handlers("on_message", "on_error", "on_disconnected")
    )
    with Stream(server) as client:
        client.send(b"x" * 50_000)
    log.wait("on_disconnected")
    assert joined(log) == b"x" * 50_000
    assert not log.of("on_error")


def test_reads_can_be_asked_for_one_by_one(serve, free):
    log = Log()
    server = serve(mode="byte", continuous_read=False, free_threading_events=free, **log.handlers("on_connected", "on_message"))
    with Stream(server) as client:
        ((conn,),) = log.wait("on_connected")
        client.send(b"first")
        assert not eventually(lambda: log.of("on_message"), timeout=0.05)
        conn.read("a")
        assert log.wait("on_message") == [(conn, b"first", "a")]


def test_broadcast_and_close_work_as_with_messages(serve, free):
    log = Log()
    server = serve(mode="byte", free_threading_events=free, **log.handlers("on_connected", "on_disconnected"))
    with Stream(server) as a, Stream(server) as b:
        log.wait("on_connected", 2)
        assert server.broadcast(b"to all") == 2
        assert a.receive(6) == b.receive(6) == b"to all"
    log.wait("on_disconnected", 2)
    assert [conn.error for (conn,) in log.of("on_disconnected")] == [None, None]


@linux_only
def test_any_end_is_orderly(serve, free):
    """There are no messages that could be cut off."""
    log = Log()
    server = serve(mode="byte", free_threading_events=free, **log.handlers("on_disconnected", "on_error"))
    with raw_client(server) as client:
        client.sendall(b"\0\0\0")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    ((conn,),) = log.wait("on_disconnected")
    assert conn.error is None and not log.of("on_error")


@linux_only
def test_a_client_of_bytes_that_does_not_read_stalls_itself_only(serve):
    def on_message(conn, data, cookie):
        try:
            conn.write(data)
        except npipes.PipeClosedError:
            pass

    server = serve(mode="byte", write_high_water=100_000, on_message=on_message, on_error=lambda conn, error: None)
    with raw_client(server) as client:
        client.setblocking(False)
        sent = 0

        def stalled():
            nonlocal sent
            try:
                while True:
                    sent += client.send(bytes(65536))
            except BlockingIOError:
                before = server.stats.bytes_in
                return not eventually(lambda: server.stats.bytes_in != before, timeout=0.05)

        assert eventually(stalled)
        assert sent < 16 << 20
        with raw_client(server) as other:
            other.sendall(b"x")
            assert other.recv(1) == b"x"
