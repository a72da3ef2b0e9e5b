"""One request and its reply: npipes.call and Client.call."""

import os

import pytest
from support import TIMEOUT, Log, Outcome, echo, eventually

import npipes


def test_a_call_is_a_connection_of_its_own(serve):
    log = Log()
    server = serve(on_message=echo, **log.handlers("on_connected", "on_disconnected"))
    for size in (1, 5000, 300_000):
        data = os.urandom(size)
        assert npipes.call(server.name, data) == data
    assert len(log.wait("on_disconnected", 3)) == 3
    assert all(conn.error is None for (conn,) in log.of("on_disconnected"))


def test_a_call_of_a_client_leaves_it_open(serve):
    server = serve(on_message=echo)
    with npipes.connect(server.name) as client:
        for i in range(100):
            assert client.call(b"%d" % i, timeout=TIMEOUT) == b"%d" % i
        assert client.call(bytearray(b"buffer")) == b"buffer"
        with pytest.raises(TypeError):
            client.call("text")
        assert eventually(lambda: server.stats.connections == 1)


def test_calls_of_several_threads_get_their_own_replies(serve):
    server = serve(on_message=echo)
    with npipes.connect(server.name) as client:

        def talk(number):
            for i in range(50):
                data = b"%d %d" % (number, i) + bytes(number * 2000)
                assert client.call(data, timeout=TIMEOUT) == data

        outcomes = [Outcome(talk, number) for number in range(8)]
        for outcome in outcomes:
            outcome.get()


def test_a_call_may_wait_for_its_server(pipe_name):
    calling = Outcome(npipes.call, pipe_name, b"x", timeout=TIMEOUT)
    assert calling.is_waiting()
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo):
        assert calling.get() == b"x"


def test_a_call_may_wait_for_ever(serve):
    server = serve(on_message=echo)
    assert npipes.call(server.name, b"x", timeout=None) == b"x"


def test_nobody_there_is_told(pipe_name):
    with pytest.raises(npipes.PipeNotFoundError):
        npipes.call(pipe_name, b"x", timeout=0)


def test_a_server_that_closes_instead_of_answering_is_told(serve):
    server = serve(on_message=lambda conn, data, cookie: conn.close())
    with pytest.raises(npipes.ConnectionClosed) as info:
        npipes.call(server.name, b"x", timeout=TIMEOUT)
    assert server.address in str(info.value)


def test_a_reply_that_is_too_large_is_told(serve):
    server = serve(on_message=echo)
    assert npipes.call(server.name, bytes(10), max_message_size=10) == bytes(10)
    with pytest.raises(npipes.MessageTooLargeError):
        npipes.call(server.name, bytes(11), max_message_size=10)


def test_the_timeout_is_told_as_it_was_given(serve):
    server = serve()
    with pytest.raises(npipes.PipeTimeoutError, match=r"within 0\.3 seconds$"):
        npipes.call(server.name, b"nobody answers", timeout=0.3)
