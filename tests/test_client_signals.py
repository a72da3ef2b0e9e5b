"""Signal handlers run while a call waits, and Ctrl-C ends it; nothing of a message is lost."""

import signal
import threading
import time

import pytest
from support import TIMEOUT, Outcome, interrupted_after, linux_only, raw_client, seconds

import npipes


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.recv_bytes(),
        lambda a: a.recv_bytes(timeout=TIMEOUT),
        lambda a: a.recv_bytes_into(bytearray(10)),
        lambda a: a.recv_many(),
        lambda a: a.poll(None),
        lambda a: a.call(b"x"),
        lambda a: a.send_bytes(bytes(50_000_000)),
        lambda a: a.send_many([bytes(100_000)] * 500),
    ],
    ids=["recv_bytes", "recv_bytes with a timeout", "recv_bytes_into", "recv_many", "poll", "call", "send_bytes", "send_many"],
)
def test_ctrl_c_ends_what_waits(ends, call):
    a, b = ends
    with interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
        call(a)
    b.send_bytes(b"later")
    assert a.recv_bytes(timeout=TIMEOUT) == b"later"


def test_ctrl_c_ends_accept(listener):
    with interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
        listener.accept()
    with npipes.connect(listener.address) as a, listener.accept(timeout=TIMEOUT) as b:
        a.send_bytes(b"x")
        assert b.recv_bytes(timeout=TIMEOUT) == b"x"


def test_ctrl_c_ends_connect(pipe_name):
    with interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
        npipes.connect(pipe_name, timeout=TIMEOUT)


def test_ctrl_c_ends_the_wait_for_a_turn(ends):
    a, b = ends
    waiting = Outcome(a.recv_bytes)
    assert waiting.is_waiting()
    with interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
        a.recv_bytes()
    b.send_bytes(b"x")
    assert waiting.get() == b"x"


def test_ctrl_c_inside_a_send_leaves_it_half_sent(ends):
    a, b = ends
    with interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
        a.send_bytes(bytes(50_000_000))
    with pytest.raises(npipes.PipeClosedError, match="ended inside a message"):
        a.send_bytes(b"x")
    a.close()
    with pytest.raises((npipes.PipeResetError, npipes.ConnectionClosed)):
        b.recv_bytes(timeout=TIMEOUT)


@linux_only
def test_ctrl_c_inside_a_message_loses_nothing(listener):
    with raw_client(listener.address) as peer, listener.accept() as client:
        peer.sendall(b"\0\0\0\5he")
        with interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
            client.recv_bytes()
        peer.sendall(b"llo")
        assert client.recv_bytes(timeout=TIMEOUT) == b"hello"


@pytest.fixture
def handled():
    """SIGINT that is noted, and does not end anything."""
    notes = []
    old = signal.signal(signal.SIGINT, lambda *_: notes.append(time.monotonic()))
    yield notes
    signal.signal(signal.SIGINT, old)


def test_a_handler_runs_at_once_and_the_call_goes_on(ends, handled):
    a, b = ends
    begin = time.monotonic()
    sender = threading.Timer(0.4, b.send_bytes, [b"x"])
    sender.start()
    with interrupted_after(0.1):
        assert a.recv_bytes() == b"x"
    sender.join(TIMEOUT)
    assert len(handled) == 1 and handled[0] - begin < 0.35


def test_a_handler_leaves_the_timeout_alone(ends, listener, handled):
    a, _ = ends
    for call in (a.recv_bytes, a.recv_many, listener.accept):

        def waits(call=call):
            with pytest.raises(npipes.PipeTimeoutError):
                call(timeout=0.3)

        with interrupted_after(0.1):
            assert 0.3 <= seconds(waits) < 5
    assert len(handled) == 3


def test_a_handler_leaves_a_send_whole(ends, handled):
    a, b = ends
    data = bytes(range(256)) * 100_000

    def receive():
        time.sleep(0.3)
        return b.recv_bytes(timeout=TIMEOUT)

    receiving = Outcome(receive)
    with interrupted_after(0.1):
        a.send_bytes(data)
    assert receiving.get() == data and len(handled) == 1


@linux_only
def test_a_handler_may_use_the_client_that_waits(ends):
    """What would wait for its own thread is refused instead."""
    a, b = ends
    seen = []

    def handler(*_):
        with pytest.raises(npipes.PipeError, match="inside such a call"):
            a.recv_bytes()
        a.send_bytes(b"from the handler")
        seen.append(b.recv_bytes(timeout=TIMEOUT))
        b.send_bytes(b"answer")

    old = signal.signal(signal.SIGINT, handler)
    try:
        with interrupted_after(0.1):
            assert a.recv_bytes(timeout=TIMEOUT) == b"answer"
    finally:
        signal.signal(signal.SIGINT, old)
    assert seen == [b"from the handler"]


def test_a_handler_may_close_the_client_that_waits(ends):
    a, _ = ends
    old = signal.signal(signal.SIGINT, lambda *_: a.close())
    try:
        with interrupted_after(0.1), pytest.raises(npipes.PipeClosedError):
            a.recv_bytes()
    finally:
        signal.signal(signal.SIGINT, old)
