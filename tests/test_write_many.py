"""write_many: the items of an iterable as a message each, all or none."""

import sys
import weakref

import pytest
from support import Client, Log, let_go

import npipes


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def server(serve, free, log):
    return serve(
        free_threading_events=free,
        max_pending_bytes=1_000_000,
        max_message_size=1_000_000,
        **log.handlers("on_connected", "on_sent", "on_disconnected", "on_error"),
    )


@pytest.fixture
def client(server, connect):
    return connect(server)


@pytest.fixture
def conn(client, log):
    ((conn,),) = log.wait("on_connected")
    return conn


PIECES = [b"a", b"bc", b"d" * 100_000, b"e" * 70_000, b"f", b"g" * 65_536, b"h" * 5000]


def messages(kind):
    if kind is iter:
        return (piece for piece in PIECES)
    return kind(PIECES)


@pytest.mark.parametrize("kind", [list, tuple, iter, dict.fromkeys])
def test_any_iterable_is_a_message_an_item(client, conn, log, kind):
    assert conn.write_many(messages(kind), cookie="all") is None
    assert client.receive_many(len(PIECES)) == PIECES
    log.wait("on_sent")
    conn.write(b"last")
    assert client.receive() == b"last"
    log.wait("on_sent", 2)
    assert [cookie for _, cookie in log.of("on_sent")] == ["all", None]


def test_every_contiguous_bytes_like_is_taken(client, conn):
    data = bytearray(b"c" * 100_000)
    conn.write_many([b"a", bytearray(b"b"), memoryview(data)])
    data.clear()  # no export is left
    assert client.receive_many(3) == [b"a", b"b", b"c" * 100_000]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 500])
@pytest.mark.parametrize("kind", [list, tuple])
def test_any_number_of_small_items_goes_out_in_order(server, client, conn, log, kind, count):
    pieces = [b"%d" % i for i in range(count)]
    conn.write_many(kind(pieces))
    conn.write_many(kind(pieces), cookie="again")
    assert client.receive_many(2 * count) == pieces * 2
    log.wait("on_sent", 2)
    assert [cookie for _, cookie in log.of("on_sent")] == [None, "again"]
    assert server.stats.messages_out == 2 * count
    conn.close()
    with pytest.raises(npipes.PipeClosedError):
        conn.write_many(kind(pieces))


def test_items_without_bytes_are_left_out(server, client, conn, log):
    conn.write_many([b"", b"a", bytearray(), b"b", b""], cookie=1)
    conn.write_many([b"", b""], cookie=2)
    conn.write_many([], cookie=3)
    conn.write(b"c", cookie=4)
    assert client.receive_many(3) == [b"a", b"b", b"c"]
    log.wait("on_sent", 2)
    assert [cookie for _, cookie in log.of("on_sent")] == [1, 4]
    assert server.stats.messages_out == 3


def test_a_handler_may_answer_a_batch_with_a_batch(serve, free):
    server = serve(free_threading_events=free, on_messages=lambda conn, messages: conn.write_many(messages))
    with Client(server) as client:
        sent = [b"%d" % i * (i * 37 % 500 + 1) for i in range(500)]
        for data in sent:
            client.send(data)
        assert client.receive_many(500) == sent


def test_beyond_the_limit_none_of_them_is_accepted(client, conn, log):
    with pytest.raises(npipes.QueueFullError):
        conn.write_many([bytes(400_000)] * 3, cookie="too much")
    assert conn.pending_bytes == 0 and conn.is_connected
    conn.write_many([bytes(400_000)] * 2, cookie="enough")
    assert [len(data) for data in client.receive_many(2)] == [400_000] * 2
    log.wait("on_sent")
    conn.write(b"x")
    assert client.receive() == b"x"
    assert not log.of("on_error")


@pytest.mark.parametrize(
    "bad",
    [["text"], [b"ok", None], [b"ok" * 50_000, 5], None, 5],
    ids=["str", "None", "int after a large one", "None itself", "int itself"],
)
def test_what_is_not_bytes_is_a_type_error_and_nothing_is_sent(client, conn, bad):
    with pytest.raises(TypeError):
        conn.write_many(bad)
    conn.write(b"only this")
    assert client.receive() == b"only this"


def test_an_iterable_that_raises_sends_nothing(client, conn):
    def generate():
        yield b"first"
        yield b"x" * 100_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        conn.write_many(generate())
    conn.write(b"only this")
    assert client.receive() == b"only this"


def test_an_iterable_may_use_the_connection_meanwhile(client, conn, log):
    def generate():
        conn.write(b"before")
        yield b"first"
        conn.write_many([b"between"])
        yield b"second"

    conn.write_many(generate())
    assert client.receive_many(4) == [b"before", b"between", b"first", b"second"]

    def close():
        yield b"never"
        conn.close()

    with pytest.raises(npipes.PipeClosedError) as info:
        conn.write_many(close(), cookie="lost")
    assert info.value.operation == "write"
    assert client.has_ended()


class Cookie:
    pass


def test_everything_is_let_go(client, conn, log):
    cookies = weakref.WeakSet()
    large = b"x" * 100_000
    before = sys.getrefcount(large)
    for round in range(1, 4):
        cookie = Cookie()
        cookies.add(cookie)
        conn.write_many([large, b"small", large], cookie)
        del cookie
        client.receive_many(3)
        log.wait("on_sent", round)
    with pytest.raises(npipes.QueueFullError):
        conn.write_many([large] * 20, Cookie())
    with pytest.raises(TypeError):
        conn.write_many([large, "text"], Cookie())
    log.entries.clear()
    assert let_go(lambda: not cookies and sys.getrefcount(large) == before)


def test_the_cookie_of_what_a_client_does_not_take_comes_back(client, conn, log):
    conn.write_many([bytes(100_000)] * 9, cookie="nine")
    conn.close()
    client.close()
    log.wait("on_disconnected")
    answers = [c for _, c in log.of("on_sent")] + [e.cookie for _, e in log.of("on_error") if e.cookie is not None]
    assert answers == ["nine"]


def test_arguments_are_checked(conn):
    for args, kwargs in [((), {}), (([b"x"], 1, 2), {}), (([b"x"],), {"messages": []}), (([b"x"],), {"other": 1})]:
        with pytest.raises(TypeError):
            conn.write_many(*args, **kwargs)
        with pytest.raises(TypeError):
            conn.write(*args, **kwargs)
    conn.write_many(messages=[b"x"], cookie=None)
    conn.write(data=b"x", cookie=None)
