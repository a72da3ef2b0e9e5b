"""Bytes from a peer can do nothing but be bytes: each of its faults is a named error, and costs nothing."""

import os
import struct

import pytest
from support import TIMEOUT, Outcome, echo, frame, linux_only, raw_client, resident_bytes

import npipes


@pytest.fixture
def raw(listener):
    """Linux: a Client, and the raw socket at its other end."""
    with raw_client(listener.address) as peer, listener.accept(timeout=TIMEOUT) as client:
        yield client, peer


# ---- lengths --------------------------------------------------------------


@linux_only
@pytest.mark.parametrize(
    "header",
    [
        struct.pack("!i", -2),
        struct.pack("!i", -(1 << 31)),
        struct.pack("!iq", -1, -1),
        struct.pack("!iq", -1, -(1 << 63)),
    ],
    ids=str,
)
def test_a_length_that_can_not_be_ends_the_receiving(raw, header):
    client, peer = raw
    peer.sendall(frame(b"before") + header + b"after")
    assert client.recv_bytes(timeout=TIMEOUT) == b"before"
    for receive in (client.recv_bytes, client.recv_many, client.recv_bytes):
        with pytest.raises(npipes.ProtocolError, match="length") as info:
            receive(timeout=TIMEOUT)
        assert client.address in str(info.value)
    assert client.poll() is True
    client.send_bytes(b"x")
    assert peer.recv(100) == frame(b"x")


@linux_only
@pytest.mark.parametrize("length", [(64 << 20) + 1, (1 << 31) - 1, 1 << 31, 1 << 62])
def test_more_than_max_message_size_is_refused_before_memory_is_taken(raw, length):
    client, peer = raw
    short = length < 1 << 31
    peer.sendall(struct.pack("!i", length) if short else struct.pack("!iq", -1, length))
    before = resident_bytes()
    for _ in range(2):
        with pytest.raises(npipes.MessageTooLargeError, match=f"{length} bytes is more than") as e:
            client.recv_bytes(timeout=TIMEOUT)
        assert client.address in str(e.value) and str(64 << 20) in str(e.value)
    assert resident_bytes() - before < 4 << 20


@linux_only
def test_memory_grows_only_with_the_bytes_that_came(listener):
    with raw_client(listener.address) as peer, listener.accept() as client:
        peer.sendall(struct.pack("!i", 60 << 20) + bytes(1000))
        before = resident_bytes()
        with pytest.raises(npipes.PipeTimeoutError):
            client.recv_bytes(timeout=0.1)
        assert resident_bytes() - before < 8 << 20


@linux_only
def test_a_length_of_twelve_bytes_is_understood(raw):
    client, peer = raw
    peer.sendall(struct.pack("!iq", -1, 5) + b"hello" + struct.pack("!iq", -1, 0) + frame(b"x"))
    assert client.recv_bytes(timeout=TIMEOUT) == b"hello"
    assert client.recv_bytes(timeout=TIMEOUT) == b""
    assert client.recv_bytes(timeout=TIMEOUT) == b"x"


# ---- parts ----------------------------------------------------------------


@linux_only
@pytest.mark.parametrize(
    "part",
    [b"\0", b"\0\0\0", struct.pack("!i", 5), frame(b"hello")[:-1], struct.pack("!i", -1) + bytes(7), frame(bytes(100_000))[:-1]],
    ids=len,
)
def test_a_peer_that_leaves_inside_a_message_is_a_reset(raw, part):
    client, peer = raw
    peer.sendall(frame(b"before") + part)
    peer.close()
    assert client.recv_many(timeout=TIMEOUT) == [b"before"]
    for _ in range(2):
        with pytest.raises(npipes.PipeResetError, match="left after") as info:
            client.recv_bytes(timeout=TIMEOUT)
        assert isinstance(info.value, ConnectionResetError) and client.address in str(info.value)


@linux_only
def test_a_peer_that_leaves_without_reading_is_a_reset(raw):
    client, peer = raw
    client.send_bytes(b"never read")
    peer.close()
    with pytest.raises(npipes.PipeResetError, match="without reading"):
        client.recv_bytes(timeout=TIMEOUT)


@linux_only
def test_bytes_may_come_one_by_one(raw):
    client, peer = raw
    receiving = Outcome(lambda: [client.recv_bytes(timeout=TIMEOUT) for _ in range(3)])
    for byte in frame(b"one") + frame(b"") + frame(b"three"):
        peer.sendall(bytes([byte]))
    assert receiving.get() == [b"one", b"", b"three"]


# ---- limits of the caller's -----------------------------------------------


@pytest.mark.parametrize("size", [11, 9000, 200_000])
def test_more_than_maxlength_stays_for_a_call_that_allows_it(ends, size):
    a, b = ends
    data = os.urandom(size)
    sending = Outcome(a.send_bytes, data)
    for _ in range(2):
        with pytest.raises(npipes.MessageTooLargeError, match=f"{size} bytes .* 10 bytes"):
            b.recv_bytes(10, timeout=TIMEOUT)
    assert b.poll()
    assert b.recv_bytes(maxlength=size, timeout=TIMEOUT) == data
    sending.get()
    a.send_bytes(b"0123456789")
    assert b.recv_bytes(10, timeout=TIMEOUT) == b"0123456789"
    a.send_bytes(b"")
    assert b.recv_bytes(0, timeout=TIMEOUT) == b""


def test_maxlength_is_a_length(ends):
    _, b = ends
    with pytest.raises(ValueError, match="negative maxlength"):
        b.recv_bytes(-1)
    for wrong in ("1", 1.5):
        with pytest.raises(TypeError):
            b.recv_bytes(wrong)
    with pytest.raises(TypeError):
        b.recv_bytes(1, 2)
    with pytest.raises(TypeError):
        b.recv_bytes(length=1)


@pytest.mark.parametrize("size", [101, 9000, 200_000])
def test_a_reply_beyond_max_message_size_is_refused(serve, size):
    server = serve(on_message=echo)
    with npipes.connect(server.name, max_message_size=100) as client:
        assert client.call(bytes(100), timeout=TIMEOUT) == bytes(100)
        with pytest.raises(npipes.MessageTooLargeError, match=f"{size} bytes .* 100 bytes") as e:
            client.call(bytes(size), timeout=TIMEOUT)
        assert server.address in str(e.value)
        with pytest.raises(npipes.MessageTooLargeError):
            client.recv_many(timeout=TIMEOUT)
