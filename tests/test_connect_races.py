"""Connecting and closing at the same time, in every order, and what is no pipe."""

import itertools

import pytest
from support import TIMEOUT, Outcome, is_wine, linux_only

import npipes


def test_a_thousand_clients_that_connect_and_close_at_once_are_all_accepted(pipe_name):
    count = 100 if is_wine() else 1000

    def accept_all(listener):
        for _ in range(count):
            listener.accept(timeout=TIMEOUT).close()

    with npipes.Listener(pipe_name) as listener:
        accepting = Outcome(accept_all, listener)
        for _ in range(count):
            npipes.connect(listener.address, timeout=TIMEOUT).close()
        accepting.get()


def test_connecting_while_a_listener_begins_and_ends_gives_a_connection_or_a_clear_error(pipe_name):
    def dial():
        try:
            npipes.connect(pipe_name, timeout=0).close()
        except (FileNotFoundError, npipes.PipeBusyError, npipes.PipeResetError):
            pass

    for _ in range(50):
        dialing = Outcome(dial)
        npipes.Listener(pipe_name).close()
        dialing.get()
    with pytest.raises(FileNotFoundError):
        npipes.connect(pipe_name, timeout=0)


@pytest.mark.parametrize("order", list(itertools.permutations(["listener", "client", "accepted"])), ids="-".join)
def test_a_listener_and_both_ends_may_be_closed_in_every_order(pipe_name, order):
    listener = npipes.Listener(pipe_name)
    client = npipes.connect(pipe_name)
    accepted = listener.accept(timeout=TIMEOUT)
    ends = {"listener": listener, "client": client, "accepted": accepted}
    for name in order:
        ends.pop(name).close()
        if {"client", "accepted"} <= ends.keys():
            client.send_bytes(b"still")
            assert accepted.recv_bytes(timeout=TIMEOUT) == b"still"
        elif left := ends.keys() - {"listener"}:
            with pytest.raises(EOFError):
                ends[left.pop()].recv_bytes(timeout=TIMEOUT)
    with npipes.Listener(pipe_name):  # the name is free
        pass


@linux_only
def test_a_plain_file_is_no_server(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"text")
    with pytest.raises(npipes.PipeError) as caught:
        npipes.connect(str(path), timeout=0)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"text"
