"""Every call that waits ends when its time is up, and what came so far is not lost."""

import os
import struct
import time

import pytest
from support import TIMEOUT, Outcome, finish, in_thread, linux_only, raw_client, seconds

import npipes


def times_out(function, *args, timeout=0.1, **kwargs):
    """It raises PipeTimeoutError, which names the time, when it is up and not before."""

    def call():
        with pytest.raises(npipes.PipeTimeoutError, match=f"{timeout:g} seconds") as info:
            function(*args, timeout=timeout, **kwargs)
        assert isinstance(info.value, TimeoutError)

    assert timeout <= seconds(call) < timeout + 5


@pytest.fixture
def half(listener):
    """Linux: a Client, and the raw socket at its other end."""
    with raw_client(listener.address) as peer, listener.accept(timeout=TIMEOUT) as client:
        yield client, peer


# ---- receiving ------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_receiving_ends_when_its_time_is_up(ends, timeout):
    a, b = ends
    times_out(a.recv_bytes, timeout=timeout)
    times_out(a.recv_bytes_into, bytearray(10), timeout=timeout)
    times_out(a.recv_many, timeout=timeout)
    b.send_bytes(b"late")
    assert a.recv_bytes(timeout=timeout or None) == b"late"


def test_what_is_there_comes_in_no_time(ends):
    a, b = ends
    b.send_bytes(b"")
    assert a.recv_bytes(timeout=0) == b""
    for data in (b"x", bytes(5000), bytes(40_000)):
        b.send_bytes(data)
        assert a.recv_bytes(timeout=0) == data
    b.send_many([b"1", b"2"])
    assert a.recv_many(timeout=0)[0] == b"1"


def test_polling_ends_when_its_time_is_up(ends):
    a, b = ends
    assert a.poll() is False
    assert a.poll(0) is False
    assert a.poll(-1) is False
    assert 0.1 <= seconds(a.poll, 0.1) < 5
    b.send_bytes(b"x")
    assert a.poll(TIMEOUT) is a.poll() is a.poll(None) is True


def test_waiting_for_a_turn_ends_when_its_time_is_up(ends):
    a, b = ends
    waiting = Outcome(a.recv_bytes)
    assert waiting.is_waiting()
    times_out(a.recv_bytes)
    assert a.poll(0.05) is False
    b.send_bytes(b"x")
    assert waiting.get() == b"x"


def test_a_call_ends_when_its_time_is_up(ends):
    a, b = ends
    times_out(a.call, b"question")
    assert b.recv_bytes(timeout=TIMEOUT) == b"question"
    b.send_bytes(b"late answer")
    assert a.recv_bytes(timeout=TIMEOUT) == b"late answer"


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_no_time_is_less_than_none(ends, timeout):
    a, _ = ends
    for function in (a.recv_bytes, a.recv_many):
        with pytest.raises(ValueError, match="timeout"):
            function(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        a.send_bytes(b"x", timeout=timeout)
    with pytest.raises(TypeError):
        a.recv_bytes(timeout="1")


# ---- inside a message -----------------------------------------------------


@linux_only
@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_a_message_goes_on_after_every_timeout_inside_it(half, size):
    client, peer = half
    data = os.urandom(size)
    whole = struct.pack("!i", size) + data
    cuts = [1, 3, 4, 5, 4 + size // 2, 3 + size]
    for begin, end in zip([0, *cuts], cuts, strict=False):
        sending = in_thread(peer.sendall, whole[begin:end])
        times_out(client.recv_bytes, timeout=0.05)
        finish(sending)
    peer.sendall(whole[cuts[-1] :])
    assert client.recv_bytes(timeout=TIMEOUT) == data
    peer.sendall(struct.pack("!i", 1) + b"y")
    assert client.recv_bytes(timeout=TIMEOUT) == b"y"


@linux_only
@pytest.mark.parametrize("size", [10, 100_000])
def test_any_receiving_call_goes_on_with_the_message_of_another(half, size):
    client, peer = half
    data = os.urandom(size)
    whole = struct.pack("!i", size) + data
    buffer = bytearray(size)
    for begin, end in ((0, 2), (2, 6), (6, 8)):
        peer.sendall(whole[begin:end])
        times_out(client.recv_bytes_into, buffer, timeout=0.02)
        times_out(client.recv_many, timeout=0.02)
        times_out(client.recv_bytes, timeout=0.02)
    buffer[:] = bytes(size)
    sending = in_thread(peer.sendall, whole[8:])
    assert client.recv_bytes_into(buffer, timeout=TIMEOUT) == size
    finish(sending)
    assert buffer == data


@linux_only
def test_a_buffer_belongs_to_the_caller_again_after_a_timeout(half):
    """What came into it stays there, and what comes later does not."""
    client, peer = half
    data = os.urandom(50_000)
    buffer = bytearray(60_000)
    peer.sendall(struct.pack("!i", len(data)) + data[:30_000])
    times_out(client.recv_bytes_into, buffer)
    buffer[:] = bytes(60_000)
    del buffer[:]  # nothing holds its memory
    peer.sendall(data[30_000:])
    assert client.recv_bytes(timeout=TIMEOUT) == data
    assert not buffer


# ---- sending --------------------------------------------------------------


def fill(client):
    """Sends until the peer, which does not read, holds it up; how many were sent."""
    for count in range(10_000):
        try:
            client.send_bytes(bytes(100_000), timeout=0.05)
        except npipes.PipeTimeoutError:
            return count
    raise AssertionError("nothing holds the sender up")


def test_a_send_that_ended_inside_a_message_is_the_last(ends):
    a, b = ends
    count = fill(a)
    with pytest.raises(npipes.PipeClosedError, match="ended inside a message"):
        a.send_bytes(b"x")
    with pytest.raises(npipes.PipeClosedError, match="ended inside a message"):
        a.send_many([b"x"])
    for _ in range(count):
        assert len(b.recv_bytes(timeout=TIMEOUT)) == 100_000
    b.send_bytes(b"still heard")
    assert a.recv_bytes(timeout=TIMEOUT) == b"still heard"
    a.close()
    with pytest.raises((npipes.PipeResetError, npipes.ConnectionClosed)):
        b.recv_bytes(timeout=TIMEOUT)


@linux_only
def test_a_send_of_which_nothing_went_out_may_be_tried_again(ends):
    """Linux takes a small message whole or not at all."""
    a, b = ends
    data = bytes(1000)
    count = 0
    with pytest.raises(npipes.PipeTimeoutError):
        while True:
            a.send_bytes(data, timeout=0)
            count += 1
    for _ in range(count):
        assert b.recv_bytes(timeout=TIMEOUT) == data
    a.send_bytes(b"again")
    assert b.recv_bytes(timeout=TIMEOUT) == b"again"


def test_waiting_to_send_ends_when_its_time_is_up(ends):
    a, b = ends
    sending = Outcome(a.send_bytes, bytes(8_000_000))
    assert sending.is_waiting()
    times_out(a.send_bytes, b"x")
    times_out(a.send_many, [b"x"])
    assert len(b.recv_bytes(timeout=TIMEOUT)) == 8_000_000
    sending.get()
    a.send_bytes(b"x")
    assert b.recv_bytes(timeout=TIMEOUT) == b"x"


# ---- connecting and accepting ---------------------------------------------


def test_connecting_ends_when_its_time_is_up(pipe_name):
    times_out(npipes.connect, pipe_name)
    times_out(npipes.call, pipe_name, b"x")


def test_accepting_ends_when_its_time_is_up(listener):
    times_out(listener.accept, timeout=0)
    times_out(listener.accept)
    with npipes.connect(listener.address) as client, listener.accept(timeout=0) as conn:
        client.send_bytes(b"x")
        assert conn.recv_bytes(timeout=TIMEOUT) == b"x"


def test_a_call_of_the_module_has_one_time_for_all(listener):
    begin = time.monotonic()
    with pytest.raises(npipes.PipeTimeoutError):
        npipes.call(listener.address, b"x", timeout=0.2)
    assert 0.2 <= round(time.monotonic() - begin, 3) < 5
