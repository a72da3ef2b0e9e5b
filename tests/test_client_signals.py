"""Signal handlers run while a call waits, and Ctrl-C ends it; nothing of a message is lost."""

import queue
import signal
import threading
import time

import pytest
from support import TIMEOUT, Outcome, interrupt_main_thread, interrupted, interrupted_after, linux_only, raw_client, seconds

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
    interrupted(lambda: call(a))
    b.send_bytes(b"later")
    assert a.recv_bytes(timeout=TIMEOUT) == b"later"


def test_ctrl_c_ends_accept(listener):
    interrupted(listener.accept)
    with npipes.connect(listener.address) as a, listener.accept(timeout=TIMEOUT) as b:
        a.send_bytes(b"x")
        assert b.recv_bytes(timeout=TIMEOUT) == b"x"


def test_ctrl_c_ends_connect(pipe_name):
    interrupted(lambda: npipes.connect(pipe_name, timeout=TIMEOUT))


def test_ctrl_c_ends_the_wait_for_a_turn(ends):
    a, b = ends
    waiting = Outcome(a.recv_bytes)
    assert waiting.is_waiting()
    interrupted(a.recv_bytes)
    b.send_bytes(b"x")
    assert waiting.get() == b"x"


def test_ctrl_c_inside_a_send_leaves_it_half_sent(ends):
    a, b = ends
    interrupted(lambda: a.send_bytes(bytes(50_000_000)), b.poll)
    with pytest.raises(npipes.PipeClosedError, match="ended inside a message"):
        a.send_bytes(b"x")
    a.close()
    with pytest.raises((npipes.PipeResetError, npipes.ConnectionClosed)):
        b.recv_bytes(timeout=TIMEOUT)


@linux_only
@pytest.mark.parametrize("call", ["recv_bytes", "recv_many", "poll", "send_bytes", "accept", "connect", "run"])
def test_a_signal_that_does_not_end_the_systems_wait_is_seen_soon(server, call):
    """One that another thread took, or that came just before the wait."""
    a, _ends = npipes.Pipe()
    calls = {
        "recv_bytes": a.recv_bytes,
        "recv_many": lambda: a.recv_many(timeout=TIMEOUT),
        "poll": lambda: a.poll(None),
        "send_bytes": lambda: a.send_bytes(bytes(50_000_000)),
        "accept": lambda: npipes.Listener().accept(),
        "connect": lambda: npipes.connect(server.address + "-nobody", timeout=TIMEOUT),
        "run": server.run,
    }

    def signal_another_thread():
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    taken = seconds(lambda: interrupted(calls[call], by=signal_another_thread))
    assert taken < TIMEOUT / 2


@linux_only
def test_ctrl_c_inside_a_message_loses_nothing(listener):
    with raw_client(listener.address) as peer, listener.accept() as client:
        peer.sendall(b"\0\0\0\5he")
        interrupted(client.recv_bytes)
        peer.sendall(b"llo")
        assert client.recv_bytes(timeout=TIMEOUT) == b"hello"


@pytest.fixture
def handled():
    """A queue of SIGINTs, which don't end anything."""
    came = queue.SimpleQueue()  # a handler may put into it at any moment
    old = signal.signal(signal.SIGINT, lambda *_: came.put("SIGINT"))
    yield came
    signal.signal(signal.SIGINT, old)


def test_a_handler_runs_at_once_and_the_call_goes_on(ends, handled):
    a, b = ends

    def answer():
        try:
            b.send_bytes(handled.get(timeout=TIMEOUT).encode())
        except queue.Empty:
            b.close()

    answering = Outcome(answer)
    with interrupted_after(0.1):
        assert a.recv_bytes() == b"SIGINT"
    answering.get()


def test_a_handler_leaves_the_timeout_alone(ends, listener, handled):
    a, _ = ends
    for call in (a.recv_bytes, a.recv_many, listener.accept):

        def waits(call=call):
            with pytest.raises(npipes.PipeTimeoutError):
                call(timeout=0.3)

        with interrupted_after(0.1):
            assert 0.3 <= seconds(waits) < TIMEOUT
        handled.get(timeout=TIMEOUT)


def test_a_handler_leaves_a_send_whole(ends, handled):
    a, b = ends
    data = bytes(range(256)) * 100_000

    def receive():
        time.sleep(0.3)
        return b.recv_bytes(timeout=TIMEOUT)

    receiving = Outcome(receive)
    with interrupted_after(0.1):
        a.send_bytes(data)
    assert receiving.get() == data
    handled.get(timeout=TIMEOUT)
    assert handled.empty()


@linux_only
def test_a_handler_may_use_the_client_that_waits(ends):
    """What would wait for its own thread is refused instead."""
    a, b = ends
    seen = []

    def handler(*_):
        try:
            with pytest.raises(npipes.PipeError, match="inside such a call"):
                a.recv_bytes(timeout=0)
        except npipes.PipeTimeoutError:  # it does not wait yet
            threading.Timer(0.1, interrupt_main_thread).start()
            return
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
