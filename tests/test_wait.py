"""Waiting for several connections at once."""

import multiprocessing.connection
import os
import selectors
import sys

import pytest
from support import TIMEOUT, WINDOWS, Outcome, interrupted, linux_only, seconds

import npipes

WAITS = [npipes.wait, multiprocessing.connection.wait]


@pytest.fixture
def three():
    pairs = [npipes.Pipe() for _ in range(3)]
    yield [a for a, _ in pairs], [b for _, b in pairs]
    for a, b in pairs:
        a.close()
        b.close()


@pytest.mark.parametrize("wait", WAITS)
def test_those_that_can_be_received_from_are_given(three, wait):
    ours, theirs = three
    assert wait(ours, 0) == []
    theirs[1].send_bytes(b"x")
    assert wait(ours, TIMEOUT) == [ours[1]]
    theirs[0].send_bytes(bytes(10_000))
    theirs[2].close()
    assert wait(ours) == ours
    assert len(ours[0].recv_bytes()) == 10_000
    assert wait(ours, 0) == ours[1:]
    assert ours[1].recv_bytes() == b"x"
    with pytest.raises(EOFError):
        ours[2].recv_bytes()
    assert wait(ours[:2], 0) == []


@pytest.mark.parametrize("wait", WAITS)
def test_messages_of_no_bytes_are_seen_and_kept(three, wait):
    ours, theirs = three
    theirs[0].send_bytes(b"")
    # Under Windows a wait takes such a message out of the pipe, which only npipes remembers.
    for _ in range(2 if wait is npipes.wait or not WINDOWS else 1):
        assert wait(ours, TIMEOUT) == [ours[0]]
    assert ours[0].poll()
    assert npipes.wait(ours, 0) == [ours[0]]
    assert ours[0].recv_bytes(timeout=TIMEOUT) == b""
    assert wait(ours, 0) == []


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_ends_when_its_time_is_up(three, wait):
    assert 0.1 <= seconds(wait, three[0], 0.1) < 5
    assert seconds(wait, three[0], -1) < 5


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_ends_with_the_first_message(three, wait):
    ours, theirs = three
    waiting = Outcome(wait, ours)
    assert waiting.is_waiting()
    theirs[2].send_bytes(b"x")
    assert waiting.get() == [ours[2]]


def test_what_is_left_of_a_message_counts(three):
    ours, theirs = three
    theirs[0].send_bytes(bytes(100))
    theirs[1].send_bytes(bytes(20_000))
    for end in ours[:2]:
        with pytest.raises(npipes.MessageTooLargeError):
            end.recv_bytes(10, timeout=TIMEOUT)
    assert npipes.wait(ours, TIMEOUT) == ours[:2]
    assert [len(end.recv_bytes()) for end in ours[:2]] == [100, 20_000]
    assert npipes.wait(ours, 0) == []


def test_every_message_is_seen_in_a_loop(three):
    """Many messages of a few senders, by wait() and what is there."""
    ours, theirs = three
    sending = [Outcome(t.send_many, [b"%d" % i for i in range(200)]) for t in theirs]
    got = {end: [] for end in ours}
    while sum(map(len, got.values())) < 600:
        ready = npipes.wait(ours, TIMEOUT)
        assert ready
        for end in ready:
            got[end] += end.recv_many(timeout=TIMEOUT)
    for s in sending:
        s.get()
    assert all(messages == [b"%d" % i for i in range(200)] for messages in got.values())


def test_others_may_be_in_the_list(three):
    ours, _ = three
    a, b = multiprocessing.Pipe()
    b.send("hello")
    assert npipes.wait([*ours, a], TIMEOUT) == [a]
    with pytest.raises(npipes.PipeError):
        ours[0].close()
        npipes.wait(ours, 0)
    a.close()
    b.close()


@pytest.mark.skipif(WINDOWS, reason="multiprocessing.connection.wait does not see Ctrl-C there")
def test_ctrl_c_ends_a_wait(three):
    interrupted(lambda: npipes.wait(three[0]))


@linux_only
def test_selectors_tell_the_truth(three, listener):
    """Nothing is read that was not asked for."""
    ours, theirs = three
    with selectors.DefaultSelector() as selector:
        for end in ours:
            selector.register(end, selectors.EVENT_READ, end)
        selector.register(listener, selectors.EVENT_READ, listener)

        def ready():
            return {key.data for key, _ in selector.select(0)}

        assert ready() == set()
        theirs[0].send_many([b"1", b"2", b"3", b"4"])
        assert ours[0].recv_bytes() == b"1" and ready() == {ours[0]}
        assert ours[0].recv_many(2) == [b"2", b"3"] and ready() == {ours[0]}
        assert ours[0].recv_many() == [b"4"] and ready() == set()
        with npipes.connect(listener.address):
            assert ready() == {listener}
            listener.accept().close()
        assert ready() == set()


def test_a_listener_has_no_descriptor_under_windows(listener):
    if sys.platform == "win32":
        with pytest.raises(NotImplementedError):
            listener.fileno()
    else:
        assert os.fstat(listener.fileno())
        listener.close()
        with pytest.raises(npipes.PipeClosedError):
            listener.fileno()
