"""Messages of every size arrive whole and come back whole."""

import array
import itertools
import os
import random

import pytest
from support import Client, Log, echo, frame, linux_only, raw_client, receive_frame

BUFFER = 131072
SIZES = [1, 2, 127, 128, 129, 4095, 4096, 4097, 65535, 65536, 65537, BUFFER - 1, BUFFER, BUFFER + 1, 1 << 20]


def echo_batch(conn, messages):
    for data in messages:
        conn.write(data)


@pytest.fixture(params=["on_message", "on_messages"])
def echo_handler(request):
    """The two ways to get messages, as keyword arguments of an echo server."""
    return {request.param: echo if request.param == "on_message" else echo_batch}


def test_every_size_comes_back_as_it_was_sent(serve, connect, free, echo_handler):
    client = connect(serve(free_threading_events=free, **echo_handler))
    for size in SIZES:
        data = os.urandom(size)
        assert client.request(data) == data, size


def test_64_mib_come_back(serve, connect, free, echo_handler):
    client = connect(serve(free_threading_events=free, **echo_handler))
    data = os.urandom(1 << 20) * 64
    client.send(data)
    assert client.receive() == data
    assert client.request(b"and it goes on") == b"and it goes on"


@pytest.mark.parametrize("buffer_size", [1, 100, 4096, 1 << 20])
def test_the_buffer_size_caps_no_message(serve, connect, buffer_size):
    client = connect(serve(message_buffer_size=buffer_size, on_message=echo))
    for size in (buffer_size - 1, buffer_size, buffer_size + 1, 3 * buffer_size + 7, 300_000):
        if size:
            data = os.urandom(size)
            assert client.request(data) == data, size


def test_messages_sent_without_waiting_keep_their_order_and_boundaries(serve, connect, free, echo_handler):
    client = connect(serve(free_threading_events=free, **echo_handler))
    rng = random.Random(1)
    sizes = [rng.choice((1, 3, 60, 500, 5000)) for _ in range(40)]
    for _ in range(20):
        sent = [rng.randbytes(size) for size in sizes]
        for data in sent:
            client.send(data)
        assert client.receive_many(len(sent)) == sent


def test_large_and_small_messages_mix(serve, connect, free):
    client = connect(serve(free_threading_events=free, on_message=echo))
    for size in (1, 200_000, 2, 70_000, 3, 3_000_000, 4):
        data = os.urandom(size)
        assert client.request(data) == data
    pieces = [os.urandom(size) for size in (70_000, 5, 66_000, 6, 7)]
    client.send(b"all")  # the replies go out in one batch
    assert client.receive() == b"all"
    for data in pieces:
        client.send(data)
        assert client.receive() == data


def test_one_batch_of_replies_may_be_large_and_small(serve, connect, free):
    pieces = [bytes([i]) * size for i, size in enumerate((10, 70_000, 1, 100_000, 65_536, 2, 3))]

    def on_message(conn, data, cookie):
        for piece in pieces:
            conn.write(piece)

    client = connect(serve(free_threading_events=free, on_message=on_message))
    client.send(b"go")
    assert client.receive_many(len(pieces)) == pieces


def test_an_empty_message_is_a_message(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_message"))
    client = connect(server)
    for data in (b"", b"x", b"", b""):
        client.send(data)
    assert [data for _, data, _ in log.wait("on_message", 4)] == [b"", b"x", b"", b""]


def test_writing_nothing_is_no_message(serve, connect, free):
    def on_message(conn, data, cookie):
        for piece in (b"", bytearray(), memoryview(b""), data):
            assert conn.write(piece) is None

    client = connect(serve(free_threading_events=free, on_message=on_message))
    assert client.request(b"only this") == b"only this"


def test_a_message_stays_when_its_handler_has_returned(serve, connect, free):
    log = Log()
    client = connect(serve(free_threading_events=free, **log.handlers("on_message")))
    sent = [bytes([i]) * size for i, size in enumerate((10, 5000, 70_000, 200_000) * 3)]
    for data in sent:
        client.send(data)
    received = [data for _, data, _ in log.wait("on_message", len(sent))]
    assert received == sent
    assert all(type(data) is bytes for data in received)


def test_on_messages_gets_lists_of_bytes(serve, connect, free):
    log = Log()
    unused = Log()
    server = serve(free_threading_events=free, on_message=unused.handler("on_message"), **log.handlers("on_messages"))
    client = connect(server)
    for i in range(100):
        client.send(b"%d" % i)
    received = []
    for count in itertools.count(1):
        if len(received) >= 100:
            break
        received = [data for _, batch in log.wait("on_messages", count) for data in batch]
    assert received == [b"%d" % i for i in range(100)]
    assert all(type(batch) is list and batch for _, batch in log.of("on_messages"))
    assert not unused.entries


@pytest.mark.parametrize(
    "payload",
    [bytearray(b"abcd"), memoryview(b"abcd"), array.array("B", b"abcd"), array.array("H", [1, 2]), memoryview(b"xabcdx")[1:5]],
    ids=["bytearray", "memoryview", "array of bytes", "array of shorts", "slice"],
)
def test_write_takes_every_contiguous_bytes_like(serve, connect, payload):
    client = connect(serve(on_message=lambda conn, data, cookie: conn.write(payload)))
    assert client.request(b"go") == bytes(payload)


@pytest.mark.parametrize(
    ("payload", "error"),
    [("text", TypeError), (None, TypeError), (5, TypeError), (memoryview(b"abcdef")[::2], BufferError)],
    ids=["str", "None", "int", "not contiguous"],
)
def test_write_refuses_what_is_not_contiguous_bytes(serve, connect, payload, error):
    log = Log()
    client = connect(serve(on_message=echo, **log.handlers("on_connected")))
    ((conn,),) = log.wait("on_connected")
    with pytest.raises(error):
        conn.write(payload)
    assert client.request(b"goes on") == b"goes on"


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_what_happens_to_the_memory_after_write_does_not_matter(serve, connect, size):
    log = Log()
    client = connect(serve(**log.handlers("on_connected")))
    ((conn,),) = log.wait("on_connected")
    data = bytearray(b"a" * size)
    conn.write(data)
    data[:] = b"b" * size
    data.clear()  # a BufferError, if an export were left
    assert client.receive() == b"a" * size


@linux_only
@pytest.mark.parametrize("size", [0, 1, 300])
def test_a_message_may_come_in_any_two_pieces(serve, size):
    server = serve(on_message=echo)
    first = bytes(i % 251 for i in range(size))
    stream = frame(first) + frame(b"next")
    with raw_client(server) as client:
        for at in range(1, len(stream)):
            client.sendall(stream[:at])
            if at < 4 + size:
                client.sendall(stream[at:])
            if first:
                assert receive_frame(client) == first
            if at >= 4 + size:
                client.sendall(stream[at:])
            assert receive_frame(client) == b"next"


@linux_only
def test_a_message_may_come_byte_by_byte(serve):
    log = Log()
    server = serve(**log.handlers("on_message"))
    stream = b"".join(frame(bytes([i]) * i) for i in range(40))
    with raw_client(server) as client:
        for i in range(len(stream)):
            client.send(stream[i : i + 1])
        received = [data for _, data, _ in log.wait("on_message", 40)]
    assert received == [bytes([i]) * i for i in range(40)]


@linux_only
def test_a_large_message_may_come_in_many_pieces_and_end_with_the_next(serve):
    log = Log()
    server = serve(**log.handlers("on_message"))
    rng = random.Random(2)
    messages = [rng.randbytes(size) for size in (70_000, 1, 300_000, 0, 65_536, 65_535, 2_000_000)]
    stream = b"".join(map(frame, messages))
    with raw_client(server) as client:
        at = 0
        while at < len(stream):
            step = rng.choice((1, 10, 1000, 50_000, 200_000))
            client.sendall(stream[at : at + step])
            at += step
        received = [data for _, data, _ in log.wait("on_message", len(messages))]
    assert received == messages


@linux_only
def test_the_eight_byte_length_is_understood_for_small_messages_too(serve):
    server = serve(on_message=echo)
    with raw_client(server) as client:
        client.sendall(b"\xff\xff\xff\xff" + (5).to_bytes(8, "big") + b"hello")
        assert receive_frame(client) == b"hello"


def test_many_clients_get_their_own_replies(serve, connect, free):
    server = serve(free_threading_events=free, on_message=echo)
    clients = [connect(server) for _ in range(20)]
    for n, client in enumerate(clients):
        for i in range(20):
            client.send(b"%d %d" % (n, i))
    for n, client in enumerate(clients):
        assert client.receive_many(20) == [b"%d %d" % (n, i) for i in range(20)]


def test_spinning_changes_nothing(serve, free):
    server = serve(free_threading_events=free, spin_us=50, on_message=echo)
    with Client(server) as client:
        for i in range(200):
            assert client.request(b"%d" % i) == b"%d" % i


def test_small_kernel_buffers_change_nothing(serve, connect, free):
    client = connect(serve(free_threading_events=free, kernel_buffer_size=4096, on_message=echo))
    for size in (1, 4096, 100_000, 1_000_000):
        data = os.urandom(size)
        assert client.request(data) == data
