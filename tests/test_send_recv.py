"""send() and recv() of a Client: objects, to npipes and to the standard library."""

import collections
import contextlib
import gc
import multiprocessing.connection
import pickle
import threading
import weakref
from multiprocessing import reduction, resource_sharer

import pytest
from support import FAMILY, TIMEOUT, Outcome, echo, run_python

import npipes

THINGS = [None, 1, "two", b"three", [3.0, {"four": (5,)}], {6, 7}, "x" * 100_000, bytearray(200_000)]


class Mine:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Mine and other.x == self.x


class Bomb:
    fired = []

    def __reduce__(self):
        return Bomb.fired.append, (1,)


def test_objects_go_both_ways(ends):
    a, b = ends
    for thing in THINGS:
        for sender, receiver in ((a, b), (b, a)):
            sending = Outcome(sender.send, thing, timeout=TIMEOUT)
            assert receiver.recv(timeout=TIMEOUT) == thing
            assert sending.get() is None


def test_the_standard_library_is_a_server(pipe_name):
    with multiprocessing.connection.Listener(npipes.address(pipe_name), FAMILY) as listener:
        accepting = Outcome(listener.accept)
        with npipes.connect(pipe_name) as ours, accepting.get() as theirs:
            for thing in THINGS:
                sending = Outcome(ours.send, thing)
                assert theirs.recv() == thing
                sending.get()
                sending = Outcome(theirs.send, thing)
                assert ours.recv(timeout=TIMEOUT) == thing
                sending.get()


def test_the_standard_library_is_a_client(listener):
    with multiprocessing.connection.Client(listener.address, FAMILY) as theirs, listener.accept(timeout=TIMEOUT) as ours:
        for thing in THINGS:
            sending = Outcome(theirs.send, thing)
            assert ours.recv(timeout=TIMEOUT) == thing
            sending.get()
            sending = Outcome(ours.send, thing)
            assert theirs.recv() == thing
            sending.get()


def test_a_server_sees_a_pickle_as_one_message(serve):
    server = serve(on_message=echo)
    with npipes.connect(server.address) as client:
        client.send({"a": 1})
        assert pickle.loads(client.recv_bytes(timeout=TIMEOUT)) == {"a": 1}
        client.send_bytes(npipes.dumps(["x"]))
        assert client.recv(timeout=TIMEOUT) == ["x"]


def test_what_is_not_allowed_is_refused_and_the_next_one_comes(ends):
    a, b = ends
    a.send(Bomb())
    a.send(Mine(1))
    a.send_bytes(b"")
    a.send_bytes(b"no pickle")
    a.send("after them")
    for _ in range(4):
        with pytest.raises(npipes.UnsafePayloadError):
            b.recv(timeout=TIMEOUT)
    assert b.recv(timeout=TIMEOUT) == "after them"
    assert Bomb.fired == []


def test_allow_and_trusted_are_the_clients(pipe_name):
    for options in ({"allow": [Mine]}, {"allow": [f"{__name__}.Mine"]}, {"trusted": True}):
        a, b = npipes.Pipe(**options)
        with a, b:
            for sender, receiver in ((a, b), (b, a)):
                sender.send([Mine(5)])
                assert receiver.recv(timeout=TIMEOUT) == [Mine(5)]
        with npipes.Listener(pipe_name, **options) as listener:
            with npipes.connect(pipe_name, **options) as a, listener.accept(timeout=TIMEOUT) as b:
                for sender, receiver in ((a, b), (b, a)):
                    sender.send([Mine(5)])
                    assert receiver.recv(timeout=TIMEOUT) == [Mine(5)]
            with npipes.connect(pipe_name) as a, listener.accept(timeout=TIMEOUT) as b:
                b.send(Mine(5))
                with pytest.raises(npipes.UnsafePayloadError, match="Mine is not allowed"):
                    a.recv(timeout=TIMEOUT)


def test_trusted_is_not_what_it_is_by_default(ends):
    a, b = ends
    a.send(collections.deque([1]))
    with pytest.raises(npipes.UnsafePayloadError, match="collections.deque"):
        b.recv(timeout=TIMEOUT)


def test_what_can_not_be_pickled_sends_nothing(ends):
    a, b = ends
    with pytest.raises((pickle.PicklingError, AttributeError)):
        a.send(lambda: None)
    with pytest.raises(TypeError):
        a.send(threading.Lock())
    a.send("next")
    assert b.recv(timeout=TIMEOUT) == "next"


def test_a_wait_ends_with_its_timeout(ends):
    a, b = ends
    with pytest.raises(npipes.PipeTimeoutError):
        a.recv(timeout=0.05)
    b.send("late")
    assert a.recv(timeout=TIMEOUT) == "late"
    with pytest.raises(npipes.PipeTimeoutError):
        a.send(bytes(50_000_000), timeout=0.05)


def test_a_wait_ends_with_the_connection(ends):
    a, b = ends
    b.send("last")
    b.close()
    assert a.recv(timeout=TIMEOUT) == "last"
    with pytest.raises(npipes.ConnectionClosed):
        a.recv(timeout=TIMEOUT)
    with pytest.raises(npipes.PipeClosedError):
        a.send(1)
    a.close()
    for call in (lambda: a.send(1), a.recv):
        with pytest.raises(npipes.PipeClosedError):
            call()


def test_ends_of_a_one_way_pipe():
    r, w = npipes.Pipe(duplex=False)
    with r, w:
        w.send([1])
        assert r.recv(timeout=TIMEOUT) == [1]
        with pytest.raises(OSError, match="read-only"):
            r.send(1)
        with pytest.raises(OSError, match="write-only"):
            w.recv()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.send(),
        lambda a: a.send(1, 2),
        lambda a: a.send(1, timeout=-1),
        lambda a: a.send(1, timeout="x"),
        lambda a: a.recv(5),
        lambda a: a.recv(timeout=-1),
        lambda a: a.recv(wait=1),
    ],
)
def test_wrong_arguments_are_refused(ends, wrong):
    a, b = ends
    with pytest.raises((TypeError, ValueError)):
        wrong(a)
    assert not b.poll(0.01)


def test_threads_send_and_receive_objects(ends):
    a, b = ends
    sending = [Outcome(lambda i=i: [a.send((i, n)) for n in range(100)]) for i in range(4)]
    receiving = [Outcome(lambda: [b.recv(timeout=TIMEOUT) for _ in range(100)]) for _ in range(4)]
    got = sorted(thing for r in receiving for thing in r.get())
    assert got == [(i, n) for i in range(4) for n in range(100)]
    for s in sending:
        s.get()


def test_a_client_that_travels_keeps_what_it_may_receive():
    a, b = npipes.Pipe(allow=[Mine])
    c, d = npipes.Pipe(trusted=True)
    try:
        copies = pickle.loads(reduction.ForkingPickler.dumps([b, d]))
    finally:
        resource_sharer.stop(TIMEOUT)
    with copies[0] as b2, copies[1] as d2, a, b, c, d:
        a.send(Mine(1))
        assert b2.recv(timeout=TIMEOUT) == Mine(1)
        a.send(collections.deque())
        with pytest.raises(npipes.UnsafePayloadError):
            b2.recv(timeout=TIMEOUT)
        c.send(collections.deque([2]))
        assert d2.recv(timeout=TIMEOUT) == collections.deque([2])


def test_connections_of_multiprocessing_are_sent_as_it_sends_them():
    """Its pickler knows how, where it is in use."""
    a, b = npipes.Pipe(trusted=True)
    ours, theirs = multiprocessing.Pipe()
    try:
        with a, b, ours:
            a.send(theirs)
            with b.recv(timeout=TIMEOUT) as copy:
                theirs.close()
                copy.send("x")
                assert ours.recv() == "x"
    finally:
        resource_sharer.stop(TIMEOUT)


def test_multiprocessing_is_not_imported_to_send():
    run_python("""
        import sys, npipes
        a, b = npipes.Pipe()
        a.send([1]); assert b.recv(timeout=10) == [1]
        assert "multiprocessing" not in sys.modules
    """)


def test_a_class_and_its_client_are_dropped_together():
    """A class that holds the Client that allows it is collected."""
    cls = type("Holder", (), {})
    cls.pipe = npipes.Pipe(allow=[cls])
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


def test_nothing_is_left_of_what_was_sent():
    import tracemalloc

    a, b = npipes.Pipe()

    def some():
        for _ in range(200):
            a.send([1, "x", {"y": bytes(1000)}])
            b.recv(timeout=TIMEOUT)
            a.send(Mine(1))
            with contextlib.suppress(npipes.UnsafePayloadError):
                b.recv(timeout=TIMEOUT)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        some()
        before = some()
        assert some() < before + 20_000
    finally:
        tracemalloc.stop()
    a.close()
    b.close()
