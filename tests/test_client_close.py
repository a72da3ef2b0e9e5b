"""The end of a connection: closed here, by another thread, by the peer."""

import gc
import os
import weakref

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Outcome,
    descriptor_count,
    echo,
    linux_only,
    python_process,
)

import npipes

# ---- here -----------------------------------------------------------------


def calls(client):
    return {
        "recv_bytes": client.recv_bytes,
        "recv_bytes_into": lambda: client.recv_bytes_into(bytearray(5)),
        "recv_many": client.recv_many,
        "poll": client.poll,
        "send_bytes": lambda: client.send_bytes(b"x"),
        "send_many": lambda: client.send_many([b"x"]),
        "call": lambda: client.call(b"x"),
        "fileno": client.fileno,
    }


@pytest.mark.parametrize("name", calls(npipes.Pipe()[0]))
def test_nothing_works_after_close(ends, name):
    a, _ = ends
    a.close()
    a.close()
    assert a.closed
    with pytest.raises(npipes.PipeClosedError) as info:
        calls(a)[name]()
    assert a.address in str(info.value) and isinstance(info.value, OSError)


def test_a_with_statement_closes(ends):
    a, _ = ends
    with a as entered:
        assert entered is a and not a.closed
        assert "connected" in repr(a) and a.address in repr(a)
    assert a.closed and "closed" in repr(a)


def test_a_client_that_is_dropped_is_closed():
    a, b = npipes.Pipe()
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None
    with pytest.raises(npipes.ConnectionClosed):
        b.recv_bytes(timeout=TIMEOUT)


def test_a_client_can_only_be_made_by_a_function():
    with pytest.raises(TypeError):
        npipes.Client()


# ---- by another thread ----------------------------------------------------

WAITING = {
    "recv_bytes": lambda a: a.recv_bytes(),
    "recv_bytes with a timeout": lambda a: a.recv_bytes(timeout=TIMEOUT),
    "recv_bytes_into": lambda a: a.recv_bytes_into(bytearray(5)),
    "recv_many": lambda a: a.recv_many(),
    "poll": lambda a: a.poll(None),
    "send_bytes": lambda a: a.send_bytes(bytes(50_000_000)),
    "send_many": lambda a: a.send_many([bytes(100_000)] * 500),
    "call": lambda a: a.call(b"x"),
}


@pytest.mark.parametrize("name", WAITING)
def test_close_ends_what_another_thread_waits_for(ends, name):
    a, _ = ends
    waiting = Outcome(WAITING[name], a)
    assert waiting.is_waiting()
    a.close()
    with pytest.raises(npipes.PipeClosedError):
        waiting.get()


def test_close_ends_what_several_threads_wait_for(ends):
    a, _ = ends
    waiting = [Outcome(a.recv_bytes) for _ in range(4)]
    waiting += [Outcome(a.send_bytes, bytes(20_000_000)) for _ in range(4)]
    assert all(w.is_waiting(0.02) for w in waiting)
    a.close()
    for w in waiting:
        with pytest.raises(npipes.PipeClosedError):
            w.get()


def test_the_peer_sees_a_close_that_ended_a_wait(ends):
    a, b = ends
    waiting = Outcome(a.recv_bytes)
    assert waiting.is_waiting()
    a.close()
    with pytest.raises(npipes.ConnectionClosed):
        b.recv_bytes(timeout=TIMEOUT)
    with pytest.raises(npipes.PipeClosedError):
        waiting.get()


def test_closing_and_receiving_race():
    for _ in range(200):
        a, b = npipes.Pipe()
        b.send_bytes(b"x")
        receiving = Outcome(a.recv_bytes)
        a.close()
        try:
            assert receiving.get() == b"x"
        except npipes.PipeClosedError:
            pass
        b.close()


# ---- by the peer ----------------------------------------------------------


def test_what_was_sent_before_a_close_is_received(ends):
    a, b = ends
    a.send_many([b"1", bytes(20_000), b"3"])
    a.close()
    got = [b.recv_bytes(timeout=TIMEOUT), *b.recv_many(1), *b.recv_many()]
    assert [len(data) for data in got] == [1, 20_000, 1]
    for _ in range(2):
        with pytest.raises(npipes.ConnectionClosed) as info:
            b.recv_bytes()
        assert isinstance(info.value, EOFError) and b.address in str(info.value)
        with pytest.raises(EOFError):
            b.recv_many()
        assert b.poll() is True


def test_sending_to_a_peer_that_has_closed_is_refused(ends):
    a, b = ends
    b.close()
    with pytest.raises(npipes.PipeClosedError) as info:
        for _ in range(10):
            a.send_bytes(b"x")
    assert isinstance(info.value, BrokenPipeError) and a.address in str(info.value)


def test_a_peer_that_closes_ends_a_wait(ends):
    a, b = ends
    waiting = Outcome(a.recv_bytes)
    assert waiting.is_waiting()
    b.close()
    with pytest.raises(npipes.ConnectionClosed):
        waiting.get()


def test_a_peer_that_closes_ends_a_send(ends):
    a, b = ends
    sending = Outcome(a.send_bytes, bytes(50_000_000))
    assert sending.is_waiting()
    b.close()
    with pytest.raises(npipes.PipeClosedError):
        sending.get()


def test_a_server_that_stops_is_an_orderly_end(serve):
    server = serve(on_message=echo)
    with npipes.connect(server.name) as client:
        assert client.call(b"x", timeout=TIMEOUT) == b"x"
        server.stop()
        with pytest.raises(npipes.ConnectionClosed):
            client.recv_bytes(timeout=TIMEOUT)


DIES_INSIDE_A_MESSAGE = """
    import os, sys, threading
    import npipes

    with npipes.Listener(sys.argv[1]) as listener:
        print(listener.address, flush=True)
        conn = listener.accept()
        threading.Thread(target=conn.send_bytes, args=(bytes(50_000_000),), daemon=True).start()
        conn.recv_bytes()
        os._exit(0)
"""


def test_a_server_that_dies_inside_a_message_is_a_reset(pipe_name):
    with python_process(DIES_INSIDE_A_MESSAGE, pipe_name) as process:
        address = process.stdout.readline().strip()
        with npipes.connect(address) as client:
            with pytest.raises(npipes.MessageTooLargeError):
                client.recv_bytes(10, timeout=TIMEOUT)  # has begun to arrive
            client.send_bytes(b"die")
            process.wait(TIMEOUT)
            with pytest.raises(ConnectionResetError) as info:
                client.recv_bytes(timeout=TIMEOUT)
            assert isinstance(info.value, npipes.PipeResetError) and address in str(info.value)
            with pytest.raises(npipes.PipeResetError):
                client.recv_bytes(timeout=TIMEOUT)


# ---- one way --------------------------------------------------------------


def test_a_one_way_pipe_goes_one_way():
    r, w = npipes.Pipe(duplex=False)
    assert (r.readable, r.writable, w.readable, w.writable) == (True, False, False, True)
    w.send_bytes(b"x")
    assert r.recv_bytes(timeout=TIMEOUT) == b"x"
    for call in (lambda: r.send_bytes(b"x"), lambda: r.send_many([b"x"]), lambda: r.call(b"x")):
        with pytest.raises(npipes.PipeError, match="connection is read-only"):
            call()
    for call in (w.recv_bytes, w.recv_many, w.poll, lambda: w.recv_bytes_into(bytearray(1))):
        with pytest.raises(npipes.PipeError, match="connection is write-only"):
            call()
    w.close()
    with pytest.raises(npipes.PipeClosedError):
        w.recv_bytes()
    with pytest.raises(npipes.ConnectionClosed):
        r.recv_bytes(timeout=TIMEOUT)


# ---- nothing is left ------------------------------------------------------


@linux_only
def test_descriptors_are_given_back(listener):
    def use():
        with npipes.connect(listener.address) as a, listener.accept() as b:
            a.send_bytes(bytes(100))
            b.recv_bytes(timeout=TIMEOUT)
            waiting = Outcome(a.recv_bytes)
            waiting.is_waiting(0.01)
            a.close()
            with pytest.raises(npipes.PipeClosedError):
                waiting.get()
        for end in npipes.Pipe():
            end.poll()
        with npipes.Listener() as other, pytest.raises(npipes.PipeTimeoutError):
            other.accept(timeout=0.001)
        with pytest.raises(npipes.PipeNotFoundError):
            npipes.connect("nobody", timeout=0)

    use()
    gc.collect()  # tracebacks keep what they have seen
    before = descriptor_count()
    for _ in range(20):
        use()
    gc.collect()
    assert descriptor_count() <= before


def test_the_descriptor_is_the_systems_own(ends):
    a, _ = ends
    assert a.fileno() > 0
    if not WINDOWS:
        assert not os.get_inheritable(a.fileno())
        assert os.get_blocking(a.fileno())
