"""What goes in at one end of a Client's connection comes out at the other."""

import array
import multiprocessing
import os
import threading
from multiprocessing.connection import Client as StandardClient
from multiprocessing.connection import Listener as StandardListener

import pytest
from support import FAMILY, TIMEOUT, Client, Log, Outcome, echo, finish, in_thread, is_wine

import npipes

SIZES = [0, 1, 3, 4, 127, 4096, 8191, 8192, 8193, 32767, 65536, 131073, 1 << 20, (1 << 20) + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_size_arrives(ends, size):
    a, b = ends
    data = os.urandom(size)
    sending = Outcome(a.send_bytes, data)
    assert b.recv_bytes(timeout=TIMEOUT) == data
    sending.get()
    assert not b.poll()


def test_both_ends_send_and_receive(ends):
    a, b = ends
    for x, y in (ends, reversed(ends)):
        x.send_bytes(b"there")
        assert y.recv_bytes(timeout=TIMEOUT) == b"there"
    assert a.call is not None and b.readable and b.writable


def test_messages_of_no_bytes_are_messages(ends):
    a, b = ends
    for data in (b"", b"", b"x", b""):
        a.send_bytes(data)
    assert b.poll(TIMEOUT)
    assert b.poll(TIMEOUT)
    assert [b.recv_bytes(timeout=TIMEOUT) for _ in range(4)] == [b"", b"", b"x", b""]


def test_a_part_of_a_buffer_is_sent(ends):
    a, b = ends
    data = b"abcdefghij"
    for args in ((2,), (2, 3), (10,), (0, 0), (9, 1), (3, None)):
        a.send_bytes(data, *args)
        first, size = (*args, None)[:2]
        expected = data[first:] if size is None else data[first : first + size]
        assert b.recv_bytes(timeout=TIMEOUT) == expected
    a.send_bytes(data, offset=1, size=2, timeout=TIMEOUT)
    assert b.recv_bytes(timeout=TIMEOUT) == b"bc"


@pytest.mark.parametrize("args", [(11,), (-1,), (4, 7), (4, -1), (10, 1)])
def test_a_part_that_is_not_there_is_refused(args):
    a, _ = npipes.Pipe()
    with pytest.raises(ValueError):
        a.send_bytes(b"abcdefghij", *args)


def test_everything_bytes_like_is_sent(ends):
    a, b = ends
    things = [bytearray(b"abc"), memoryview(b"abc"), array.array("i", range(5)), memoryview(b"abcdef")[2:4]]
    for thing in things:
        a.send_bytes(thing)
        assert b.recv_bytes(timeout=TIMEOUT) == bytes(memoryview(thing).cast("B"))
    for thing in ("text", 5, None, [b"x"], memoryview(b"abcdef")[::2]):
        with pytest.raises((TypeError, BufferError)):
            a.send_bytes(thing)
    assert not b.poll()


# ---- into a buffer --------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 8192, 100_000, 3_000_000])
def test_a_message_goes_into_a_buffer(ends, size):
    a, b = ends
    data = os.urandom(size)
    buffer = bytearray(size + 10)
    sending = Outcome(a.send_bytes, data)
    assert b.recv_bytes_into(buffer, 5, timeout=TIMEOUT) == size
    sending.get()
    assert buffer == bytes(5) + data + bytes(5)


@pytest.mark.parametrize("size", [5, 9000, 200_000])
def test_a_buffer_that_is_too_short_is_told_with_the_message(ends, size):
    a, b = ends
    data = os.urandom(size)
    sending = Outcome(a.send_bytes, data)
    with pytest.raises(multiprocessing.BufferTooShort) as info:
        b.recv_bytes_into(bytearray(size + 1), 2)
    sending.get()
    assert info.value.args == (data,)
    a.send_bytes(b"next")
    assert b.recv_bytes(timeout=TIMEOUT) == b"next"


def test_only_what_can_be_written_to_takes_a_message(ends):
    _, b = ends
    for wrong in (b"bytes", "text", None):
        with pytest.raises(TypeError):
            b.recv_bytes_into(wrong)
    for offset in (-1, 11):
        with pytest.raises(ValueError):
            b.recv_bytes_into(bytearray(10), offset)


# ---- many -----------------------------------------------------------------


def assert_all_come(sending, end, sent):
    received = []
    while len(received) < len(sent):
        received += end.recv_many(timeout=TIMEOUT)
    sending.get()
    assert received == sent


def test_many_messages_go_and_come_together(ends):
    a, b = ends
    sent = [os.urandom(i % 300) for i in range(2000)]
    assert_all_come(Outcome(a.send_many, sent), b, sent)


def test_large_ones_among_them(ends):
    a, b = ends
    sent = [b"x", bytes(70_000), b"", bytes(20_000), b"y", bytes(2_000_000), b"z"]
    assert_all_come(Outcome(a.send_many, (data for data in sent)), b, sent)


def test_no_more_than_wanted_come(ends):
    a, b = ends
    a.send_many([b"%d" % i for i in range(10)])
    assert b.recv_many(1, timeout=TIMEOUT) == [b"0"]
    assert b.recv_bytes(timeout=TIMEOUT) == b"1"
    got = b.recv_many(max=5, timeout=TIMEOUT)
    assert 1 <= len(got) <= 5
    while len(got) < 8:
        got += b.recv_many(8 - len(got), timeout=TIMEOUT)
    assert got == [b"%d" % i for i in range(2, 10)]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max"):
            b.recv_many(wrong)


def test_sending_none_of_many_does_nothing(ends):
    a, b = ends
    a.send_many([])
    with pytest.raises(TypeError):
        a.send_many([b"x", "text"])
    assert not b.poll()


# ---- threads --------------------------------------------------------------


def test_messages_of_eight_threads_do_not_mix(ends):
    a, b = ends
    sizes = [1, 100, 5000, 9000, 40_000, 70_000]
    each = 30 if is_wine() else 120

    def send(number):
        for i in range(each):
            size = sizes[(number + i) % len(sizes)]
            a.send_bytes(bytes([number]) * size)

    threads = [in_thread(send, number) for number in range(8)]
    counts = [0] * 8
    for _ in range(8 * each):
        data = b.recv_bytes(timeout=TIMEOUT)
        assert data == bytes([data[0]]) * len(data) and len(data) in sizes
        counts[data[0]] += 1
    finish(*threads)
    assert counts == [each] * 8


def test_threads_that_receive_share_the_messages(ends):
    a, b = ends
    got = Log()

    def receive():
        while data := b.recv_bytes(timeout=TIMEOUT):
            got.add("message", data)

    threads = [in_thread(receive) for _ in range(4)]
    sent = [b"%d" % i for i in range(200)]
    a.send_many(sent)
    got.wait("message", 200)
    a.send_many([b""] * 4)
    finish(*threads)
    assert sorted(data for (data,) in got.of("message")) == sorted(sent)


def test_one_thread_sends_while_another_waits_for_an_answer(ends):
    a, b = ends
    waiting = Outcome(a.recv_bytes)
    assert waiting.is_waiting()
    a.send_bytes(b"question")
    assert b.recv_bytes(timeout=TIMEOUT) == b"question"
    b.send_bytes(b"answer")
    assert waiting.get() == b"answer"


# ---- peers ----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 16385, 70_000, 2_000_000])
def test_the_standard_listener_is_a_peer(pipe_name, size):
    data = os.urandom(size)
    with StandardListener(npipes.address(pipe_name), FAMILY) as listener:
        accepting = Outcome(listener.accept)
        with npipes.connect(pipe_name) as client, accepting.get() as theirs:
            sending = Outcome(client.send_bytes, data)
            assert theirs.recv_bytes() == data
            sending.get()
            sending = Outcome(theirs.send_bytes, data)
            assert client.recv_bytes(timeout=TIMEOUT) == data
            sending.get()


@pytest.mark.parametrize("size", [0, 1, 100, 16385, 70_000, 2_000_000])
def test_the_standard_client_is_a_peer(listener, size):
    data = os.urandom(size)
    with StandardClient(listener.address, FAMILY) as theirs, listener.accept() as ours:
        sending = Outcome(theirs.send_bytes, data)
        assert ours.recv_bytes(timeout=TIMEOUT) == data
        sending.get()
        sending = Outcome(ours.send_bytes, data)
        assert theirs.recv_bytes() == data
        sending.get()


def test_objects_of_the_standard_library_are_bytes_here(listener):
    with StandardClient(listener.address, FAMILY) as theirs, listener.accept() as ours:
        theirs.send({"a": [1, 2]})
        ours.send_bytes(ours.recv_bytes(timeout=TIMEOUT))
        assert theirs.recv() == {"a": [1, 2]}


def test_a_server_answers(serve):
    server = serve(on_message=echo)
    with npipes.connect(server.name) as client:
        for size in (1, 100, 70_000, 3_000_000):
            data = os.urandom(size)
            sending = Outcome(client.send_bytes, data)
            assert client.recv_bytes(timeout=TIMEOUT) == data
            sending.get()
        client.send_many([b"%d" % i for i in range(500)])
        got = []
        while len(got) < 500:
            got += client.recv_many(timeout=TIMEOUT)
        assert got == [b"%d" % i for i in range(500)]


def test_eight_threads_talk_to_a_server_at_once(serve):
    """Each with a connection of its own, in one process."""
    server = serve(on_message=echo, threads=2)
    start = threading.Barrier(8)

    def talk(number):
        with npipes.connect(server.name) as client:
            start.wait(TIMEOUT)
            for i in range(100):
                data = b"%d %d" % (number, i)
                client.send_bytes(data)
                assert client.recv_bytes(timeout=TIMEOUT) == data

    outcomes = [Outcome(talk, number) for number in range(8)]
    for outcome in outcomes:
        outcome.get()


def test_an_old_client_of_the_tests_is_served_by_a_listener(listener):
    with Client(listener.address) as client, listener.accept() as conn:
        client.send(b"hello")
        assert conn.recv_bytes(timeout=TIMEOUT) == b"hello"


def test_recv_of_what_send_bytes_sent_names_recv_bytes():
    a, b = npipes.Pipe()
    with a, b:
        a.send_bytes(b"hello")
        with pytest.raises(npipes.UnsafePayloadError, match=r"what send_bytes\(\) sent is for recv_bytes\(\)$"):
            b.recv(timeout=TIMEOUT)
        a.send(print)
        with pytest.raises(npipes.UnsafePayloadError, match=r"print is not allowed, at byte \d+ of \d+$"):
            b.recv(timeout=TIMEOUT)
