"""Frames: what one half of a tunnel makes, the other half takes, and nothing else."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import is_wine

import npipes

if is_wine():
    pytest.skip("bytes in and bytes out, the same on both systems", allow_module_level=True)

from npipes.bridge.errors import BadFrameError, FrameGapError  # noqa: E402
from npipes.bridge.frames import (  # noqa: E402
    ANSWER,
    CLOSE,
    DATA,
    ENTRY,
    HEADER,
    KEEP,
    MORE,
    NUMBER,
    PROBE,
    REF,
    close_body,
    parse_close,
)
from npipes.bridge.incoming import Incoming  # noqa: E402
from npipes.bridge.outgoing import Outgoing  # noqa: E402
from npipes.bridge.shares import MAX_BYTES, MAX_COUNT, Memory, Sent, key_of  # noqa: E402
from npipes.bridge.stored import batch_of, messages_of  # noqa: E402

MAX = 1 << 20


def frame(number, *entries, kind=DATA, allowed=1 << 16):
    return HEADER.pack(kind, number, allowed) + b"".join(entries)


def entry(data, flags=0, size=None):
    return ENTRY.pack((len(data) if size is None else size) | flags) + data


def kept(number, data):
    return ENTRY.pack(len(data) | KEEP) + NUMBER.pack(number) + data


def referred(number, size):
    return ENTRY.pack(size | REF) + NUMBER.pack(number)


def take(incoming, *frames):
    """The messages of DATA frames, as an open tunnel takes them."""
    got = []
    for one in frames:
        kind, _ = incoming.header(one)
        assert kind == DATA
        incoming.messages_of(one, lambda message: got.append(bytes(message)))
    return got


messages = st.lists(
    st.one_of(
        st.binary(max_size=50),
        st.builds(
            lambda seed, size: bytes([seed]) * size,
            st.integers(0, 3),
            st.sampled_from([0, 127, 128, 1023, 1024, 1028, 5000, 40_000]),
        ),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(messages, st.integers(1100, 30_000), st.lists(st.integers(1, 60_000), min_size=1, max_size=6))
def test_messages_pass_whole_and_in_order_whatever_the_room_and_the_credit(sent, room, grants):
    out = Outgoing(allowed=0)
    into = Incoming(0, MAX, None)
    for message in sent:
        out.put(message)
    got, turn = [], 0
    while out.queued:
        if not out.can_send:
            into.granted += 1024 + ENTRY.size + grants[turn % len(grants)]
            turn += 1
            out.allow(into.granted)
        made = out.data(0, room)
        assert len(made) <= room
        got += take(into, made)
        assert out.sent == into.received <= into.granted
    assert got == sent
    assert out.messages == into.messages == len(sent)


@settings(max_examples=60, deadline=None)
@given(st.lists(messages, min_size=2, max_size=4), st.integers(1200, 60_000), st.integers(1, 50_000))
def test_shared_messages_pass_likewise_and_the_rest_is_not_disturbed(queues, room, grant):
    sent, memory, last = Sent(), Memory(), 0
    tunnels = []
    for queue in queues:
        out, into = Outgoing(0), Incoming(0, MAX, memory)
        out.shares_from = 1
        for message in [*queue, b"#" * 2000]:
            out.put(message)
        tunnels.append((out, into, [], [*queue, b"#" * 2000]))
    while any(out.queued for out, *_ in tunnels):
        counts = {}
        for out, *_ in tunnels:
            out.count_shared(counts, 64)
        hot = {key for key, count in counts.items() if count > 1}
        for out, into, got, _ in tunnels:
            if out.queued and not out.can_send:
                into.granted = max(into.granted, into.received) + 1100 + grant
                out.allow(into.granted)
            made, last = out.shared_data(0, room, sent, hot, last)
            assert len(made) <= room
            got += take(into, made)
            assert out.sent == into.received
    for _, _, got, expected in tunnels:
        assert got == expected


def test_a_message_that_waits_in_many_tunnels_goes_out_once():
    sent, memory, last = Sent(), Memory(), 0
    message = os.urandom(10_000)
    made = []
    for _ in range(50):
        out = Outgoing(1 << 16)
        out.shares_from = 1
        out.put(message)
        one, last = out.shared_data(0, MAX, sent, {key_of(message)}, last)
        made.append(one)
        assert take(Incoming(1 << 16, MAX, memory), one) == [message]
    assert sum(map(len, made)) < len(message) + 50 * 64


def test_a_tunnel_does_not_refer_to_what_was_numbered_before_it():
    sent, message = Sent(), os.urandom(1000)
    sent.keep(1, message)
    out = Outgoing(1 << 16)
    out.shares_from = 2
    out.put(message)
    one, last = out.shared_data(0, MAX, sent, set(), 1)
    assert last == 1 and message in one


def test_both_sides_forget_the_same_messages():
    sent, memory = Sent(), Memory()
    messages = [os.urandom(50_000) for _ in range(MAX_BYTES // 50_000 + 20)]
    for number, message in enumerate(messages):
        sent.keep(number, message)
        memory.keep(number, message)
    known = [memory.get(number) is not None for number in range(len(messages))]
    assert known == [sent.find(message) is not None for message in messages]
    assert known == sorted(known) and 0 < sum(known) * 50_000 <= MAX_BYTES
    for number in range(1000, 1000 + 2 * MAX_COUNT):
        memory.keep(number, b"x")
    assert sum(memory.get(number) is not None for number in range(3000)) == MAX_COUNT


# ---- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\x11"],
        [HEADER.pack(DATA, 1, 0)[:-1]],
        [frame(1, kind=0)],
        [frame(1, kind=0x21)],
        [frame(1, b"\0")],
        [frame(1, entry(b"abc", size=4))],
        [frame(1, entry(b"", size=(1 << 29) - 1))],
        [frame(1, entry(bytes(300), MORE | KEEP))],
        [frame(1, entry(bytes(300), KEEP | REF))],
        [frame(1, ENTRY.pack(KEEP) + b"1234567")],
        [frame(1, referred(7, 100))],  # never kept
        [frame(1, kept(7, bytes(300)), referred(7, 299))],  # another size
        [frame(1, kept(7, bytes(300)), kept(7, bytes(300)))],  # the same number
        [frame(1, entry(b"a", MORE), kept(7, bytes(300)))],  # inside a message
        [frame(1, entry(bytes(900))), frame(2, entry(bytes(93)))],  # 1001 of 1000 bytes
        [frame(1, entry(bytes(996))), frame(2, kept(1, b"x"))],  # nothing is left
    ],
)
def test_a_frame_that_no_bridge_sends_is_refused(frames):
    with pytest.raises(BadFrameError):
        take(Incoming(1000, MAX, Memory()), *frames)


@pytest.mark.parametrize("kind", [PROBE, ANSWER])
def test_a_probe_has_the_number_of_the_frame_before_it(kind):
    into, out = Incoming(1000, MAX, None), Outgoing(1000)
    take(into, out.data(0, 1000), out.data(0, 1000))
    assert into.header(out.mark(7, kind)) == (kind, 7)
    take(into, out.data(0, 1000))
    out.data(0, 1000)
    with pytest.raises(FrameGapError, match="4 frames were sent, of which 3 came"):
        into.header(out.mark(7, kind))


@pytest.mark.parametrize("numbers", [[0], [2], [1, 1], [1, 3], [1, 2, 1], [1 << 63]])
def test_a_missing_or_repeated_frame_is_a_gap(numbers):
    with pytest.raises(FrameGapError, match="came after frame"):
        take(Incoming(1000, MAX, None), *(frame(number) for number in numbers))


def test_a_side_that_shares_nothing_is_not_believed_to():
    with pytest.raises(BadFrameError, match="shared"):
        take(Incoming(1000, MAX, None), frame(1, kept(1, bytes(300))))


def test_a_message_is_as_long_as_allowed_and_no_longer():
    assert take(Incoming(MAX, 100, None), frame(1, entry(bytes(60), MORE), entry(bytes(40)))) == [bytes(100)]
    with pytest.raises(npipes.MessageTooLargeError, match="100 bytes"):
        take(Incoming(MAX, 100, None), frame(1, entry(bytes(60), MORE), entry(bytes(41))))


@pytest.mark.parametrize("allowed", [99, (1 << 28) + 1, (1 << 64) - 1])
def test_a_credit_never_shrinks_and_has_a_limit(allowed):
    out = Outgoing(100)
    with pytest.raises(BadFrameError, match="credit"):
        out.allow(allowed)


def test_a_close_has_a_code_and_a_reason():
    made = frame(1, close_body(3, "because \N{EURO SIGN}\n"), kind=CLOSE)
    assert parse_close(made) == (3, "because \N{EURO SIGN}?")
    for bad in (b"", bytes(2000)):
        with pytest.raises(BadFrameError):
            parse_close(frame(1, bad, kind=CLOSE))


# ---- credit --------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_sender_that_has_no_credit_left_gets_some_when_the_reader_has_taken_half(data):
    windows = st.sampled_from([16 << 10, 64 << 10, 1 << 20, 4 << 20])
    granted = data.draw(windows)
    out, into = Outgoing(granted), Incoming(granted, MAX, None)
    for _ in range(5):
        window = data.draw(windows)
        out.put(bytes(5 << 20))
        while out.can_send:
            one = out.data(0, 256 << 10)
            into.header(one)
            into.received = out.sent
        out.clear()
        pending = data.draw(st.integers(0, window // 2))
        assert into.due(pending, window)
        assert into.granted - into.received >= window // 2
        out.allow(into.granted)


# ---- batches -------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20), st.integers(10, 2000))
def test_batches_are_taken_apart_as_they_were_made(messages, room):
    from collections import deque

    queue, got = deque(messages), []
    while queue:
        batch, count = batch_of(queue, room)
        assert count == 1 or len(batch) <= room + 1
        got += messages_of(batch)
        for _ in range(count):
            queue.popleft()
    assert got == messages


@pytest.mark.parametrize("batch", [b"", b"\2", b"\1\0", b"\1\0\0\0\5abc", b"\1\xff\xff\xff\xff"])
def test_a_batch_that_is_none_is_refused(batch):
    with pytest.raises(BadFrameError):
        list(messages_of(batch))
