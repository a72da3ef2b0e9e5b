"""A server, its clients and a model of both: whatever is done in whatever order, every message comes once and in
order, and every event as often as it should."""

import os
from collections import deque

import pytest
from support import WINDOWS, Client, eventually, running

import npipes

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import settings, strategies as st  # noqa: E402
from hypothesis.stateful import (  # noqa: E402
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

PAYLOADS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.builds(
        lambda fill, size: bytes([fill]) * size, st.integers(0, 255), st.sampled_from([1000, 65535, 65536, 70_000, 200_000])
    ),
)


class Peer:
    """What the model knows of one connection."""

    def __init__(self):
        self.client = None
        self.conn = None  # the server's side of it
        self.to_client = deque()  # what the client has yet to receive
        self.to_server = deque()  # what the server has yet to report
        self.received = []  # what it has reported, and nobody has looked at
        self.sent = []  # cookies that came back
        self.cookies = []  # cookies that were given
        self.connected = self.disconnected = 0


class PipeMachine(RuleBasedStateMachine):
    name = free = None
    clients = Bundle("clients")

    def __init__(self):
        super().__init__()
        self.peers, self.by_conn, self.arriving = [], {}, None
        self.connections_total = 0
        self.server = npipes.Server(
            self.name,
            free_threading_events=self.free,
            on_connected=self._on_connected,
            on_message=self._on_message,
            on_sent=self._on_sent,
            on_disconnected=self._on_disconnected,
        )
        self._running = running(self.server)
        self._running.__enter__()

    def teardown(self):
        for peer in self.peers:
            peer.client.close()
        self._running.__exit__(None, None, None)
        for peer in self.peers:
            assert (peer.connected, peer.disconnected) == (1, 1)
            assert not peer.conn.is_connected
        assert self.server.connections == []

    # ---- events ----

    def _on_connected(self, conn):
        self.arriving.conn = conn
        self.by_conn[conn] = self.arriving
        self.arriving.connected += 1

    def _on_message(self, conn, data, cookie):
        assert cookie is None
        self.by_conn[conn].received.append(data)

    def _on_sent(self, conn, cookie):
        if cookie is not None:
            self.by_conn[conn].sent.append(cookie)

    def _on_disconnected(self, conn):
        self.by_conn[conn].disconnected += 1

    # ---- rules ----

    @rule(target=clients)
    def connect(self):
        if not self.server.is_running or len(self.peers) > 12:
            return multiple()
        self.arriving = peer = Peer()
        peer.client = Client(self.server)
        self.peers.append(peer)
        self.connections_total += 1
        assert eventually(lambda: peer.connected)
        return peer

    @rule(peer=clients, payloads=st.lists(PAYLOADS, min_size=1, max_size=4))
    def client_sends(self, peer, payloads):
        for data in payloads if peer.conn.is_connected else ():
            peer.client.send(data)
            peer.to_server.append(data)
        self._see(peer)

    @rule(peer=clients, payloads=st.lists(PAYLOADS, min_size=1, max_size=3), cookie=st.booleans(), together=st.booleans())
    def server_writes(self, peer, payloads, cookie, together):
        if not peer.conn.is_connected:
            with pytest.raises(npipes.PipeClosedError):
                peer.conn.write(payloads[0])
            return
        if together:
            peer.conn.write_many(payloads, self._cookie(peer) if cookie else None)
        else:
            for data in payloads:
                peer.conn.write(data, self._cookie(peer) if cookie else None)
        peer.to_client += payloads

    def _cookie(self, peer):
        peer.cookies.append(len(peer.cookies))
        return peer.cookies[-1]

    @rule(data=PAYLOADS)
    def broadcast(self, data):
        open_ones = [peer for peer in self.peers if peer.conn.is_connected]
        assert self.server.broadcast(data) == len(open_ones)
        for peer in open_ones:
            peer.to_client.append(data)

    @rule(peer=clients)
    def client_receives_all(self, peer):
        while peer.to_client:
            assert peer.client.receive() == peer.to_client.popleft()
        if peer.conn.is_connected:
            assert eventually(lambda: peer.sent == peer.cookies)

    @rule(peer=consumes(clients))
    def client_closes(self, peer):
        self.client_receives_all(peer)
        self._see(peer)
        peer.client.close()
        assert eventually(lambda: peer.disconnected == 1)
        assert peer.conn.error is None

    @rule(peer=consumes(clients), data=PAYLOADS)
    def server_closes(self, peer, data):
        """What was written before is still handed over."""
        self._see(peer)
        if peer.conn.is_connected:
            peer.conn.write(data)
            peer.to_client.append(data)
            peer.conn.close()
        assert not peer.conn.is_connected
        while peer.to_client:
            assert peer.client.receive() == peer.to_client.popleft()
        assert peer.client.has_ended()
        peer.client.close()
        assert eventually(lambda: peer.disconnected == 1)

    @precondition(lambda self: all(not peer.to_client for peer in self.peers))
    @rule()
    def stop_and_start(self):
        for peer in self.peers:
            self._see(peer)
        self.server.stop()
        for peer in self.peers:
            assert peer.disconnected == 1 and peer.sent == peer.cookies
        assert self.server.broadcast(b"nobody") == 0
        self._running.__exit__(None, None, None)
        self._running = running(self.server)
        self._running.__enter__()
        self.connections_total = 0

    def _see(self, peer):
        """What the client sent comes, in its order."""
        assert eventually(lambda: len(peer.received) >= len(peer.to_server))
        assert peer.received == list(peer.to_server)
        peer.received.clear()
        peer.to_server.clear()

    # ---- what is always so ----

    @invariant()
    def counts_agree(self):
        open_ones = {peer.conn for peer in self.peers if not peer.disconnected}
        assert set(self.server.connections) == open_ones
        assert self.server.stats.connections_total == self.connections_total
        for peer in self.peers:
            assert peer.connected == 1 and peer.disconnected <= 1
            assert peer.sent == peer.cookies[: len(peer.sent)]


def test_a_server_and_its_clients_do_what_a_model_says(new_name, free):
    machine = type("Machine", (PipeMachine,), {"name": new_name(), "free": free})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10 if WINDOWS else 30,
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=True,
            derandomize="CI" in os.environ,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
