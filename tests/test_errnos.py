"""The errno of an exception is the one that Python's module errno has under that name."""

import errno

import pytest
from support import TIMEOUT, Log

import npipes


@pytest.fixture
def ends():
    a, b = npipes.Pipe(max_message_size=10)
    with a, b:
        yield a, b


def test_of_a_wait_that_takes_too_long(ends):
    with pytest.raises(npipes.PipeTimeoutError) as info:
        ends[0].recv_bytes(timeout=0)
    assert info.value.errno == errno.ETIMEDOUT


def test_of_a_message_that_is_too_long(ends):
    ends[0].send_bytes(b"x" * 11)
    with pytest.raises(npipes.MessageTooLargeError) as info:
        ends[1].recv_bytes(timeout=TIMEOUT)
    assert info.value.errno == errno.EMSGSIZE


def test_of_a_write_that_is_too_much(serve, connect):
    log = Log()
    connect(serve(max_message_size=10, max_pending_bytes=10, **log.handlers("on_connected")))
    ((conn,),) = log.wait("on_connected")
    with pytest.raises(npipes.QueueFullError) as info:
        conn.write(b"x" * 11)
    assert info.value.errno == errno.ENOBUFS
