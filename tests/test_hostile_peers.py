"""A peer that means no good ends its own connection at most: at every kind of end, and beside peers that are good."""

import contextlib
import functools
import socket
import struct
import threading
import time

import pytest
from hostile import (
    ENDS,
    MESSAGE_TIMEOUT,
    AioClientEnd,
    AioServerEnd,
    ClientEnd,
    Flood,
    ListenerEnd,
    ManagerEnd,
    ServerEnd,
    assert_keeps_its_round_trips,
)
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    descriptor_count,
    echo,
    eventually,
    finish,
    frame,
    in_thread,
    linux_only,
    needs_names_of_ones_own,
    raw_client,
    receive_frame,
    resident_bytes,
    spare,
    thread_count,
)

import npipes

BAD = {
    "a bad length": (struct.pack("!i", -2), npipes.ProtocolError),
    "the least length": (struct.pack("!i", -(2**31)), npipes.ProtocolError),
    "a bad long length": (struct.pack("!iq", -1, -5), npipes.ProtocolError),
    "a huge length": (struct.pack("!iq", -1, 2**62), npipes.MessageTooLargeError),
    "a length above the limit": (struct.pack("!i", (64 << 20) + 1), npipes.MessageTooLargeError),
}
PARTS = {
    "half a header": b"\0\0",
    "half a long header": struct.pack("!i", -1) + bytes(3),
    "a length alone": struct.pack("!i", 60 << 20),
    "half a message": frame(bytes(1000))[:500],
    "half a large message": frame(bytes(200_000))[:100_000],
}


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=ENDS)
def end(request, pipe_name, stack):
    if WINDOWS:
        pytest.skip("a pipe keeps the boundaries of messages: its peer can't break them")
    return ENDS[request.param](pipe_name, stack)


# ---- bytes ----------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_bytes_that_are_no_message_end_their_connection(end, name):
    data, error = BAD[name]
    peer = end.peer()
    peer.sendall(frame(b"fine") + data)
    assert [type(e) for e in end.errors(1)] == [error]
    assert end.exchange(b"still here") == b"still here"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_message_is_waited_for_only_so_long(end, name):
    begin = time.monotonic()
    peer = end.peer()
    peer.sendall(PARTS[name])
    (error,) = end.errors(1)
    assert isinstance(error, npipes.PipeTimeoutError) and f"{MESSAGE_TIMEOUT} seconds" in str(error)
    assert time.monotonic() - begin >= MESSAGE_TIMEOUT
    assert end.exchange(b"still here") == b"still here"


def test_a_byte_now_and_then_is_not_enough(end):
    peer = end.peer()
    peer.sendall(struct.pack("!i", 1000))
    with contextlib.suppress(OSError):
        while end.open_count():
            peer.send(b"x")
            assert end.exchange(b"meanwhile") == b"meanwhile"
            time.sleep(0.02)
    (error,) = end.errors(1)
    assert isinstance(error, npipes.PipeTimeoutError)


def test_hundreds_of_halves_take_nothing_from_the_others(end):
    """More than one hundred messages that do not go on, at the same time."""
    count = 150
    for peer in [end.peer() for _ in range(count)]:
        with contextlib.suppress(OSError):  # its receiver was not that patient
            peer.sendall(struct.pack("!i", 1 << 20) + bytes(1000))
    assert end.exchange(b"still here") == b"still here"
    errors = end.errors(count)
    assert {type(error) for error in errors} == {npipes.PipeTimeoutError}
    assert end.open_count() == 0


def test_memory_descriptors_and_threads_return(end):
    def all_of_them(done):
        peers = [end.peer() for _ in range(len(BAD) + len(PARTS))]
        data = [data for data, _ in BAD.values()] + list(PARTS.values())
        for peer, bytes_ in zip(peers, data, strict=True):
            with contextlib.suppress(OSError):  # its receiver was not that patient
                peer.sendall(bytes_)
        end.errors(done + len(peers))
        for peer in peers:
            peer.close()
        assert eventually(lambda: end.open_count() == 0)
        return done + len(peers)

    done = all_of_them(0)
    descriptors, threads, memory = settled(descriptor_count), thread_count(), resident_bytes()
    for _ in range(5):
        done = all_of_them(done)
    assert eventually(lambda: descriptor_count() <= descriptors)
    assert eventually(lambda: thread_count() <= threads)
    assert resident_bytes() - memory < spare(8)


def settled(count):
    """The least of what is counted in a while: some are closed soon after their connection has ended."""
    least = count()
    for _ in range(30):
        time.sleep(0.01)
        least = min(least, count())
    return least


# ---- floods ---------------------------------------------------------------


@linux_only
@pytest.mark.parametrize(
    "kind",
    [
        functools.partial(ServerEnd, free_threading_events=True),
        functools.partial(ServerEnd, free_threading_events=False),
        functools.partial(ManagerEnd, free_threading_events=True),
        functools.partial(ManagerEnd, free_threading_events=False),
        AioServerEnd,
        AioClientEnd,
    ],
    ids=["server free", "server run", "manager free", "manager run", "aio server", "aio client"],
)
def test_a_flood_that_reads_no_answers_stalls_itself_only(pipe_name, stack, kind):
    end = kind(pipe_name, stack, message_timeout=None, max_pending_bytes=8 << 20)
    flood = Flood(end.peer(), frame(b"x" * 1000) * 100)
    before = resident_bytes()
    assert_keeps_its_round_trips(end.exchange, flood.going_on)
    assert end.open_count() == 1
    assert resident_bytes() - before < spare(32)


@linux_only
@pytest.mark.parametrize("kind", [ClientEnd, ListenerEnd])
def test_a_flood_is_received_by_who_waits_for_it_only(pipe_name, stack, kind):
    """A blocking end takes what it asks for, and the rest stays with the peer."""
    end = kind(pipe_name, stack)
    flood = Flood(end.peer(), frame(b"x" * 1000) * 100)
    before = resident_bytes()
    assert_keeps_its_round_trips(end.exchange, flood.going_on)
    assert end.open_count() == 1
    assert resident_bytes() - before < spare(32)


@linux_only
def test_round_trips_go_on_beside_peers_that_end_badly(pipe_name, stack):
    end = ServerEnd(pipe_name, stack)
    data = [data for data, _ in BAD.values()] + list(PARTS.values())

    @contextlib.contextmanager
    def bad_peers():
        with contextlib.ExitStack() as peers:
            for bytes_ in data:
                peers.enter_context(raw_client(end.server)).sendall(bytes_)
            yield

    assert_keeps_its_round_trips(end.exchange, bad_peers)


def test_a_client_that_only_sends_takes_nothing_from_the_others(serve):
    """On both systems: it sends until it can't, and never receives."""
    server = serve(on_message=echo)
    with Client(server) as good, Client(server) as bad:
        sent = threading.Event()

        def flood():
            with contextlib.suppress(OSError):
                while True:
                    bad.send(bytes(50_000))
                    sent.set()

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        assert sent.wait(TIMEOUT)
        for i in range(50):
            assert good.request(b"%d" % i) == b"%d" % i
        assert len(server.connections) == 2
        server.stop()
        finish(thread)


# ---- those who come and go ------------------------------------------------


@linux_only
@pytest.mark.parametrize("kind", [ServerEnd, ListenerEnd, AioServerEnd], ids=["server", "listener", "aio server"])
def test_ten_thousand_that_connect_and_vanish_leave_nothing(pipe_name, stack, kind):
    end = kind(pipe_name, stack)
    address = end.address
    stop = threading.Event()
    if kind is ListenerEnd:
        with pytest.raises(npipes.PipeTimeoutError):  # the first wait makes what all others use
            end._listener.accept(timeout=0.01)
        stack.callback(finish, in_thread(_accept_all, end._listener, stop))
        stack.callback(stop.set)

    def vanish(count):
        for i in range(count):
            with socket.socket(socket.AF_UNIX) as peer, contextlib.suppress(BrokenPipeError):
                peer.settimeout(TIMEOUT)
                peer.connect(address)
                if i % 3 == 1:
                    peer.sendall(b"\0\0")
                elif i % 3 == 2:
                    peer.sendall(frame(b"no answer wanted"))

    for _ in range(3):
        vanish(100)
        assert eventually(lambda: end.open_count() == 0)
        end.forget_errors()
    descriptors, memory = descriptor_count(), resident_bytes()

    @contextlib.contextmanager
    def vanishing():
        vanish(250)
        yield
        end.forget_errors()

    assert_keeps_its_round_trips(end.exchange, vanishing)
    assert eventually(lambda: end.open_count() == 0)
    assert end.exchange(b"still here") == b"still here"
    if kind is ServerEnd:
        assert end.server.stats.connections_total >= 10_301
    assert eventually(lambda: descriptor_count() <= descriptors)
    assert resident_bytes() - memory < spare(6)


def _accept_all(listener, stop):
    while not stop.is_set():
        with contextlib.suppress(npipes.PipeError), listener.accept(timeout=0.2) as client:
            client.close()


@linux_only
@pytest.mark.parametrize("kind", [ManagerEnd, ClientEnd, AioClientEnd], ids=["manager", "client", "aio client"])
def test_servers_that_vanish_leave_nothing(pipe_name, stack, kind):
    """The same of ends that connect."""
    end = kind(pipe_name, stack)

    def vanish(count):
        for i in range(count):
            with end.peer() as peer, contextlib.suppress(BrokenPipeError):
                if i % 3 == 1:
                    peer.sendall(b"\0\0")
                elif i % 3 == 2:
                    peer.sendall(frame(b"no answer wanted"))

    vanish(100)
    assert eventually(lambda: end.open_count() == 0)
    descriptors, threads, memory = settled(descriptor_count), thread_count(), resident_bytes()

    @contextlib.contextmanager
    def vanishing():
        vanish(25)
        yield

    assert_keeps_its_round_trips(end.exchange, vanishing)
    assert eventually(lambda: end.open_count() == 0)
    assert len(end.errors(1100)) >= 1100
    assert end.exchange(b"still here") == b"still here"
    assert eventually(lambda: descriptor_count() <= descriptors)
    assert eventually(lambda: thread_count() <= threads)
    assert resident_bytes() - memory < spare(16)


def test_clients_that_leave_at_once_leave_nothing(serve):
    """The same on both systems, with whole clients and fewer of them."""
    server = serve(on_message=echo)
    with Client(server) as good:
        for i in range(300):
            Client(server).close()
            if i % 10 == 0:
                assert good.request(b"%d" % i) == b"%d" % i
        assert eventually(lambda: server.stats.connections == 1)


# ---- what there is only so much of ----------------------------------------


def test_instances_that_are_all_taken_are_no_harm_to_those_who_have_one(serve):
    server = serve(max_instances=4, on_message=echo)
    with Client(server) as good:
        holders = [Client(server) for _ in range(3)]
        assert good.request(b"x") == b"x"
        assert eventually(lambda: server.stats.connections == 4)
        if WINDOWS:
            with pytest.raises(npipes.PipeError):
                npipes.connect(server.name, timeout=0)
        else:
            waiting = [raw_client(server) for _ in range(50)]
            assert server.stats.connections == 4
        for i in range(20):
            assert good.request(b"%d" % i) == b"%d" % i
        for holder in holders:
            holder.close()
        if not WINDOWS:
            for client in waiting[:3]:
                client.sendall(frame(b"late"))
                assert receive_frame(client) == b"late"
            for client in waiting:
                client.close()
        with Client(server) as late:
            assert late.request(b"later") == b"later"


def test_a_name_that_somebody_squats_is_refused_and_left_alone(pipe_name):
    needs_names_of_ones_own()
    with npipes.Listener(pipe_name) as squatter:
        for start in (npipes.Server(pipe_name).start, lambda: npipes.Listener(pipe_name)):
            with pytest.raises(FileExistsError):
                start()
        accepting = in_thread(lambda: squatter.accept(timeout=TIMEOUT).close())
        npipes.connect(pipe_name).close()
        finish(accepting)
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as server, Client(server) as client:
        assert client.request(b"mine now") == b"mine now"
