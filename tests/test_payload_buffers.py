"""Large buffers beside a payload instead of in it."""

import importlib.util
import pickle
import tracemalloc

import pytest
from support import TIMEOUT, Outcome, run_python

import npipes

SIZE = 16 << 20


def apart(value):
    buffers = []
    return npipes.dumps(value, buffers.append), buffers


def peak_of(function, *args, **kwargs):
    """What a call gives, and the memory that it had at its highest."""
    tracemalloc.start()
    try:
        value = function(*args, **kwargs)
        return value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_buffer_travels_beside_the_payload():
    array = bytearray(b"abc")
    data, buffers = apart({"x": pickle.PickleBuffer(array), "y": 1})
    assert [bytes(b) for b in buffers] == [b"abc"] and b"abc" not in data
    got = npipes.loads(data, [memoryview(b) for b in buffers])
    assert got["y"] == 1 and got["x"].obj is array  # it is the buffer, not a copy of it
    assert npipes.loads(data, iter([b"xyz"]))["x"] == b"xyz"


def test_a_buffer_that_can_not_be_written_to_stays_so():
    data, buffers = apart(pickle.PickleBuffer(b"abc"))
    got = npipes.loads(data, [bytearray(b"abc")])
    assert got == b"abc" and got.readonly
    assert npipes.loads(data, buffers) == b"abc"


def test_without_a_callback_it_is_in_the_payload():
    assert npipes.loads(npipes.dumps(pickle.PickleBuffer(b"abc"))) == b"abc"
    assert npipes.loads(npipes.dumps(pickle.PickleBuffer(bytearray(b"abc")))) == bytearray(b"abc")
    bag = npipes.PropertyBag()
    bag["x"] = pickle.PickleBuffer(bytearray(b"abc"))
    assert npipes.PropertyBag(bag.contents)["x"] == bytearray(b"abc")


def test_missing_buffers_are_refused():
    data, buffers = apart([pickle.PickleBuffer(b"a"), pickle.PickleBuffer(b"b")])
    for too_few in (None, [], buffers[:1]):
        with pytest.raises(npipes.UnsafePayloadError, match="buffer"):
            npipes.loads(data, too_few)
    with pytest.raises(TypeError):
        npipes.loads(data, 5)


def test_no_more_buffers_are_asked_for_than_there_are():
    """Those of the next payload stay where they are, also when this one is refused."""
    data, buffers = apart([pickle.PickleBuffer(b"a"), pickle.PickleBuffer(b"b")])
    supply = iter([b"1", b"2", b"3", b"4", b"5"])
    assert npipes.loads(data, supply) == [b"1", b"2"]
    with pytest.raises(npipes.UnsafePayloadError):
        npipes.loads(data[:-1] + b"?", supply)
    assert list(supply) == [b"5"]


def test_an_error_of_the_buffers_comes_as_it_is():
    data, _ = apart(pickle.PickleBuffer(b"a"))
    a, b = npipes.Pipe()
    with a, b, pytest.raises(npipes.PipeTimeoutError):
        npipes.loads(data, (a.recv_bytes(timeout=0) for _ in range(1)))


def test_a_callback_that_keeps_a_buffer_in_says_so_as_for_pickle():
    assert npipes.loads(npipes.dumps(pickle.PickleBuffer(b"abc"), lambda buffer: True)) == b"abc"


def test_a_bag_with_a_large_buffer_is_not_copied():
    bag = npipes.PropertyBag()
    bag["pixels"] = pickle.PickleBuffer(bytearray(SIZE))
    (data, buffers), peak = peak_of(apart, bag)
    assert peak < SIZE // 100
    got, peak = peak_of(npipes.loads, data, [memoryview(b) for b in buffers])
    assert type(got) is npipes.PropertyBag and len(got["pixels"]) == SIZE and peak < SIZE // 100


def test_contents_are_copied_once_each_way():
    bag = npipes.PropertyBag()
    bag["pixels"] = bytearray(SIZE)
    contents, peak = peak_of(lambda: bag.contents)
    assert peak < 1.6 * SIZE
    got, peak = peak_of(npipes.PropertyBag, contents)
    assert got == bag and peak < 1.1 * SIZE


def test_buffers_go_as_messages_of_their_own(ends):
    a, b = ends
    array = bytearray(bytes(range(256)) * 4096)
    data, buffers = apart({"pixels": pickle.PickleBuffer(array), "width": 1024})
    sending = Outcome(a.send_many, [data, *buffers])
    data = b.recv_bytes(timeout=TIMEOUT)
    got = npipes.loads(data, iter(lambda: b.recv_bytes(timeout=TIMEOUT), None))
    assert got == {"pixels": array, "width": 1024}
    sending.get()


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="no NumPy")
def test_arrays_of_numpy_are_used_where_they_came():
    """In a process of its own, as NumPy leaves threads behind."""
    run_python("""
        import numpy, npipes, tracemalloc

        array = numpy.arange(1 << 20, dtype="u4").reshape(1024, 1024)
        allow = ["numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer", "numpy.dtype"]
        bag = npipes.PropertyBag(allow=allow)
        bag["image"] = array
        bag.contents = bag.contents
        assert (bag["image"] == array).all() and bag["image"].dtype == array.dtype

        buffers = []
        data = npipes.dumps(bag, buffers.append)
        raw = bytearray(buffers[0])
        tracemalloc.start()
        got = npipes.loads(data, [raw], allow=allow)
        assert tracemalloc.get_traced_memory()[1] < 100_000
        assert (got["image"] == array).all()
        assert numpy.shares_memory(got["image"], numpy.frombuffer(raw, "u1"))
        try:
            npipes.loads(data, [raw])
        except npipes.UnsafePayloadError as error:
            assert "is not allowed" in str(error)
        else:
            raise AssertionError
    """)
