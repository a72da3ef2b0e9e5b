"""Bytes from a peer can do nothing but be bytes: each bad client ends its own connection only."""

import contextlib
import os
import random
import socket
import struct
import sys

import pytest
from support import (
    Log,
    echo,
    eventually,
    frame,
    linux_only,
    raw_client,
    receive_frame,
    reply,
    resident_bytes,
)

import npipes

pytestmark = linux_only

EVENTS = ("on_connected", "on_disconnected", "on_error")


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def server(serve, free, log):
    return serve(free_threading_events=free, on_message=reply, **log.handlers(*EVENTS))


@pytest.fixture
def good(server):
    """A client that is served before and after whatever the other one does."""
    with raw_client(server) as client:
        client.sendall(frame(b"before"))
        assert receive_frame(client) == b"before"
        yield client
        client.sendall(frame(b"after"))
        assert receive_frame(client) == b"after"


def error_of(log, count=1):
    """The one error of the one connection that has ended."""
    ended = log.wait("on_disconnected", count)
    assert len(ended) == count
    (conn,) = ended[-1]
    errors = [error for of, error in log.of("on_error") if of is conn]
    assert errors == ([conn.error] if conn.error else [])
    assert not conn.is_connected
    return conn.error


def assert_closed(client):
    with pytest.raises((EOFError, ConnectionError)):
        receive_frame(client)


LENGTHS = {
    "minus two": struct.pack("!i", -2),
    "the least": struct.pack("!i", -(2**31)),
    "minus one and minus one": struct.pack("!iq", -1, -1),
    "minus one and the least": struct.pack("!iq", -1, -(2**63)),
    "text": b"\x80\x00GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("header", LENGTHS.values(), ids=list(LENGTHS))
def test_a_length_that_can_not_be_is_a_protocol_error(server, good, log, header):
    with raw_client(server) as bad:
        bad.sendall(frame(b"fine"))
        assert receive_frame(bad) == b"fine"
        bad.sendall(header)
        assert_closed(bad)
        error = error_of(log)
    assert type(error) is npipes.ProtocolError
    assert (error.operation, error.cookie) == ("read", None)
    assert "length -" in str(error)


def test_messages_before_a_bad_one_are_delivered_before_the_error(serve, free, log):
    server = serve(free_threading_events=free, **log.handlers("on_message", *EVENTS))
    with raw_client(server) as bad:
        bad.sendall(frame(b"one") + frame(bytes(100_000)) + frame(b"two") + LENGTHS["minus two"])
        assert_closed(bad)
        log.wait("on_disconnected")
    assert log.names() == ["on_connected", *["on_message"] * 3, "on_error", "on_disconnected"]
    assert [data for _, data, _ in log.of("on_message")] == [b"one", bytes(100_000), b"two"]


@pytest.mark.parametrize("split", range(1, 12))
def test_a_bad_length_is_seen_in_pieces_too(server, good, log, split):
    header = LENGTHS["minus one and the least"]
    with raw_client(server) as bad:
        bad.sendall(header[:split])
        bad.sendall(header[split:])
        assert_closed(bad)
        assert type(error_of(log)) is npipes.ProtocolError


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("!i", (64 << 20) + 1),
        struct.pack("!i", 2**31 - 1),
        struct.pack("!iq", -1, 2**40),
        struct.pack("!iq", -1, 2**63 - 1),
    ],
    ids=["one more", "2 GiB", "1 TiB", "8 EiB"],
)
def test_a_length_beyond_the_limit_is_refused_before_a_body_comes(server, good, log, header):
    with raw_client(server) as bad:
        bad.sendall(header)
        assert_closed(bad)
        error = error_of(log)
    assert type(error) is npipes.MessageTooLargeError
    assert error.operation == "read"


@pytest.mark.skipif(sys.flags.dev_mode, reason="Python's development mode fills what it allocates")
def test_large_lengths_without_bodies_take_no_memory(serve, log):
    server = serve(**log.handlers(*EVENTS))
    clients = [raw_client(server) for _ in range(60)]
    log.wait("on_connected", 60)
    before = resident_bytes()
    for client in clients:
        client.sendall(struct.pack("!i", 64 << 20) + b"x" * 1000)
    with raw_client(server) as last:  # behind all of them
        last.sendall(frame(b""))
        assert eventually(lambda: server.stats.messages_in == 1)
        assert resident_bytes() - before < 20 << 20
        for client in clients:
            client.close()
        ended = log.wait("on_disconnected", 60)
        assert all(type(conn.error) is npipes.PipeResetError for (conn,) in ended)


def test_memory_grows_only_with_the_bytes_that_came(serve, log):
    server = serve(**log.handlers(*EVENTS))
    with raw_client(server) as client:
        log.wait("on_connected")
        before = resident_bytes()
        client.sendall(struct.pack("!i", 64 << 20) + bytes(4 << 20))
        with raw_client(server) as last:
            last.sendall(frame(b""))
            assert eventually(lambda: server.stats.messages_in == 1)
        assert resident_bytes() - before < 30 << 20


PARTS = {
    "half a header": (frame(b"message")[:2], "2 bytes of a message's header"),
    "a header": (frame(b"message")[:4], "0 of the 7 bytes"),
    "half a long header": (struct.pack("!iq", -1, 5)[:9], "9 bytes of a message's header"),
    "half a message": (frame(b"message")[:8], "4 of the 7 bytes"),
    "all but one byte": (frame(b"message")[:-1], "6 of the 7 bytes"),
    "half a large message": (frame(bytes(300_000))[:150_004], "150000 of the 300000 bytes"),
    "a large header": (frame(bytes(300_000))[:4], "0 of the 300000 bytes"),
}


@pytest.mark.parametrize(("part", "text"), PARTS.values(), ids=list(PARTS))
def test_a_client_that_leaves_inside_a_message_is_a_reset(server, good, log, part, text):
    with raw_client(server) as bad:
        bad.sendall(frame(b"fine") + part)
        assert receive_frame(bad) == b"fine"
    error = error_of(log)
    assert type(error) is npipes.PipeResetError
    assert isinstance(error, ConnectionResetError)
    assert error.operation == "read"
    assert text in str(error)


@pytest.mark.parametrize("part", [p for p, _ in PARTS.values()], ids=list(PARTS))
def test_a_client_that_ends_its_sending_inside_a_message_is_a_reset(server, good, log, part):
    with raw_client(server) as bad:
        bad.sendall(part)
        bad.shutdown(socket.SHUT_WR)
        assert_closed(bad)
        assert type(error_of(log)) is npipes.PipeResetError


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_client_that_leaves_between_messages_is_an_orderly_end(server, good, log, count):
    with raw_client(server) as client:
        client.sendall(frame(b"x") * count)
        for _ in range(count):
            assert receive_frame(client) == b"x"
    assert error_of(log) is None


def test_a_client_that_leaves_with_replies_unread_is_noticed_without_harm(server, good, log):
    with raw_client(server) as client:
        client.sendall(frame(b"x" * 1000) * 20)
        assert eventually(lambda: server.stats.messages_out == 21)
    error = error_of(log)  # the replies were handed over, but a reset came of it
    assert error is None or isinstance(error, ConnectionError)


def test_a_client_may_vanish_at_any_moment(server, good, log):
    """After every number of bytes of a conversation whose replies it may not have read."""
    first = frame(b"hello")
    stream = first + frame(bytes(1000)) + struct.pack("!iq", -1, 3) + b"abc"
    cuts = [*range(12), 500, 1012, 1013, 1017, 1021, 1025, 1027, len(stream)]
    for count, cut in enumerate(cuts, 1):
        with raw_client(server) as client:
            client.sendall(stream[:cut])
            if cut % 2:  # sometimes before it was even accepted
                log.wait("on_connected", count + 1)
        log.wait("on_disconnected", count)
    errors = [conn.error for (conn,) in log.of("on_disconnected")]
    assert errors[0] is None
    assert {type(error) for error in errors[1 : len(first)]} == {npipes.PipeResetError}
    assert all(error is None or isinstance(error, ConnectionError) for error in errors)


def test_clients_that_connect_and_vanish_at_once_do_no_harm(server, good, log):
    for _ in range(200):
        raw_client(server).close()
    log.wait("on_disconnected", 200)
    assert not log.of("on_error")
    assert len(log.of("on_connected")) == 201


def test_a_silent_client_harms_nobody(server, good):
    with raw_client(server), raw_client(server) as half:
        half.sendall(b"\0\0")
        for i in range(50):
            good.sendall(frame(b"%d" % i))
            assert receive_frame(good) == b"%d" % i


def test_a_flood_of_tiny_messages_keeps_nobody_else_waiting(server, good):
    flood = frame(b"x") * 10_000
    replies = []
    with raw_client(server) as bad:
        bad.setblocking(False)
        at = 0
        for i in range(30):
            with contextlib.suppress(BlockingIOError):
                while True:
                    at = (at + bad.send(flood[at:])) % len(flood)
            good.sendall(frame(b"%d" % i))
            assert receive_frame(good) == b"%d" % i
            with contextlib.suppress(BlockingIOError):
                while True:
                    replies.append(bad.recv(1 << 20))
    stream = b"".join(replies)
    assert stream
    assert stream == (frame(b"x") * (len(stream) // 5 + 1))[: len(stream)]


def test_random_bytes_end_connections_and_nothing_else(server, good, log):
    rng = random.Random(3)
    for count in range(1, 101):
        with raw_client(server) as bad:
            try:
                bad.sendall(rng.randbytes(rng.randrange(1, 2000)))
                bad.shutdown(socket.SHUT_WR)
                while bad.recv(65536):
                    pass
            except OSError:
                pass
        log.wait("on_disconnected", count)
    for (conn,) in log.of("on_disconnected"):
        assert conn.error is None or type(conn.error) in (
            npipes.ProtocolError,
            npipes.MessageTooLargeError,
            npipes.PipeResetError,
            npipes.PipeClosedError,
        )


def test_descriptors_that_a_client_sends_along_are_not_kept(server, good):
    with raw_client(server) as client:
        r, w = os.pipe()
        socket.send_fds(client, [frame(b"with a descriptor")], [w])
        os.close(w)
        assert receive_frame(client) == b"with a descriptor"
        # Nobody else has the pipe's end: reading finds the end.
        os.set_blocking(r, False)
        assert eventually(lambda: os.read(r, 1) == b"")
        os.close(r)


def test_errors_without_a_handler_are_warnings_of_the_logger(serve, caplog):
    log = Log()
    server = serve(on_message=echo, **log.handlers("on_disconnected"))
    with caplog.at_level("WARNING", logger="npipes"), raw_client(server) as bad:
        bad.sendall(LENGTHS["minus two"])
        log.wait("on_disconnected")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("npipes", "WARNING")
    assert "length -2" in record.getMessage() and server.address in record.getMessage()
