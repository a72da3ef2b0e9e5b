"""Peers that have no key, or no manners, and those who are served beside them."""

import contextlib
import multiprocessing.connection as standard
import os
import struct
import threading
import time

import pytest
from support import (
    FAMILY,
    TIMEOUT,
    WINDOWS,
    Log,
    Outcome,
    echo,
    eventually,
    linux_only,
    raw_client,
    reply,
    run_python,
    seconds,
)

import npipes

KEY = b"a key that nobody guesses"
LIMIT = 5  # seconds that a handshake has


class Doorman:
    """A Server, or a Listener with a thread that accepts, that echoes to those with the key."""

    def __init__(self, kind, stack, name, **options):
        self.log = Log()
        if kind == "server":
            self._server = npipes.Server(
                name,
                authkey=KEY,
                free_threading_events=True,
                on_message=reply,
                on_error=lambda conn, error: self.log.add("refused", error),
                **options,
            )
            stack.enter_context(self._server)
            self.address = self._server.address
        else:
            listener = npipes.Listener(name, authkey=KEY)
            self.address = listener.address
            thread = threading.Thread(target=self._accept, args=(listener,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.close)

    def _accept(self, listener):
        threads = []
        while True:
            try:
                client = listener.accept()
            except npipes.PipeClosedError:
                break
            threads.append(threading.Thread(target=self._echo, args=(client,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _echo(self, client):
        with client, contextlib.suppress(npipes.PipeError, EOFError):
            while True:
                client.send_bytes(client.recv_bytes())

    def refusals(self, caplog):
        """The texts of the errors so far."""
        logged = [r.getMessage() for r in caplog.records if r.name == "npipes"]
        return logged + [str(error) for (error,) in self.log.of("refused")]


@pytest.fixture(params=["server", "listener"])
def doorman(request, pipe_name):
    with contextlib.ExitStack() as stack:
        yield Doorman(request.param, stack, pipe_name)


def call(address, data=b"hello"):
    return npipes.call(address, data, authkey=KEY, timeout=TIMEOUT)


def without_key(address):
    """A connection that begins without a handshake."""
    return standard.Client(address, FAMILY)


# ---- silence and slowness ------------------------------------------------


def test_a_silent_client_delays_nobody_and_is_sent_away(doorman, caplog):
    begin = time.monotonic()
    with without_key(doorman.address) as silent:
        assert silent.recv_bytes().startswith(b"#CHALLENGE#")
        assert call(doorman.address) == b"hello"
        assert not doorman.refusals(caplog)  # it was served while the silent one could still speak
        for _ in range(20):
            assert call(doorman.address) == b"hello"
        assert silent.poll(TIMEOUT)
        with pytest.raises((EOFError, OSError)):
            silent.recv_bytes()
        assert LIMIT - 0.1 < time.monotonic() - begin < TIMEOUT
    assert eventually(lambda: doorman.refusals(caplog))
    (text,) = doorman.refusals(caplog)
    assert f"did not prove within {LIMIT} seconds" in text


@linux_only
def test_a_byte_a_second_is_too_slow(doorman, caplog):
    with raw_client(doorman.address) as slow:
        slow.settimeout(TIMEOUT)
        begin = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in struct.pack("!i", 40) + b"{sha256}" + bytes(32):
                slow.sendall(bytes([byte]))
                assert call(doorman.address) == b"hello"
                time.sleep(1)
        assert LIMIT - 0.1 < time.monotonic() - begin < TIMEOUT
    assert any(f"within {LIMIT} seconds" in text for text in doorman.refusals(caplog))


def test_those_with_the_key_may_take_their_time_between(doorman):
    with without_key(doorman.address) as client:
        time.sleep(1.5)
        standard.answer_challenge(client, KEY)
        time.sleep(1.5)
        standard.deliver_challenge(client, KEY)
        client.send_bytes(b"at last")
        assert client.recv_bytes() == b"at last"


def test_a_thousand_silent_clients_delay_nobody(doorman):
    """They come again and again; others connect, and those who are in talk as before."""
    count = 100 if WINDOWS else 1000
    with npipes.connect(doorman.address, authkey=KEY) as old, contextlib.ExitStack() as stack:
        for number in range(count):
            silent = npipes.connect(doorman.address, timeout=TIMEOUT)
            stack.enter_context(silent)
            if number % (count // 10) == 0:
                assert old.call(b"beside them", timeout=TIMEOUT) == b"beside them"
                with npipes.connect(doorman.address, authkey=KEY, timeout=TIMEOUT) as new:
                    assert new.call(b"among them", timeout=TIMEOUT) == b"among them"
        assert seconds(call, doorman.address) < TIMEOUT
    assert call(doorman.address) == b"hello"


def test_what_silent_clients_occupied_is_given_back(pipe_name):
    with contextlib.ExitStack() as stack:
        doorman = Doorman("server", stack, pipe_name, max_handshakes=4, listeners=1)
        for _ in range(3):
            with contextlib.ExitStack() as crowd:
                for _ in range(20):
                    crowd.enter_context(npipes.connect(pipe_name, timeout=TIMEOUT))
                assert call(pipe_name) == b"hello"
        assert eventually(lambda: len(doorman.log.of("refused")) == 60)
        texts = {str(error) for (error,) in doorman.log.of("refused")}
        assert any("max_handshakes is 4" in text for text in texts)
        assert doorman._server.stats.connections == 0


def test_an_instance_is_a_silent_clients_for_five_seconds_at_most(serve):
    server = serve(authkey=KEY, max_instances=1, on_message=echo, on_error=lambda conn, error: None)
    with npipes.connect(server.address) as silent:
        assert silent.recv_bytes(timeout=TIMEOUT).startswith(b"#CHALLENGE#")
        assert call(server.address) == b"hello"


# ---- leaving -------------------------------------------------------------


@pytest.mark.parametrize("step", range(4))
def test_a_client_that_leaves_at_a_step_leaves_nothing_behind(doorman, caplog, step):
    for _ in range(3):
        with without_key(doorman.address) as client:
            if step:
                challenge = client.recv_bytes()
            if step > 1:
                client.send_bytes(
                    standard._create_response(KEY, challenge[11:])
                    if hasattr(standard, "_create_response")
                    else md5_answer(challenge[11:])
                )
            if step > 2:
                assert client.recv_bytes() == b"#WELCOME#"
                client.send_bytes(b"#CHALLENGE#" + bytes(20))
    assert eventually(lambda: len(doorman.refusals(caplog)) == 3)
    for text in doorman.refusals(caplog):
        assert "a client left before it had proved" in text
    assert call(doorman.address) == b"hello"


def md5_answer(challenge):
    import hmac

    return hmac.digest(KEY, challenge, "md5")


@linux_only
@pytest.mark.parametrize("part", [b"\0", b"\0\0\0", b"\0\0\0\x10abc"])
def test_a_client_that_leaves_inside_a_message_leaves_nothing_behind(doorman, caplog, part):
    with raw_client(doorman.address) as client:
        client.sendall(part)
    assert eventually(lambda: doorman.refusals(caplog))
    assert call(doorman.address) == b"hello"


# ---- garbage -------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 20, 255, 256])
def test_garbage_is_a_wrong_answer(doorman, caplog, size):
    with without_key(doorman.address) as client:
        client.recv_bytes()
        client.send_bytes(os.urandom(size))
        assert client.recv_bytes() == b"#FAILURE#"
        with pytest.raises((EOFError, OSError)):
            client.recv_bytes()
    assert eventually(lambda: doorman.refusals(caplog))
    (text,) = doorman.refusals(caplog)
    assert "does not have the same authkey" in text


@pytest.mark.parametrize("size", [257, 100_000])
def test_a_message_that_is_too_long_for_a_handshake_ends_it(doorman, caplog, size):
    with without_key(doorman.address) as client:
        client.recv_bytes()
        with contextlib.suppress(OSError):  # it may be closed before all of it is sent
            client.send_bytes(bytes(size))
        with pytest.raises((EOFError, OSError)):
            client.recv_bytes()
    assert eventually(lambda: doorman.refusals(caplog))
    (text,) = doorman.refusals(caplog)
    assert f"a message of {size} bytes where a handshake has at most 256" in text


@linux_only
@pytest.mark.parametrize("length", [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0"])
def test_a_length_that_can_not_be_ends_it_before_a_body_comes(doorman, caplog, length):
    with raw_client(doorman.address) as client:
        client.settimeout(TIMEOUT)
        client.sendall(length)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(1000):
                pass
    assert eventually(lambda: doorman.refusals(caplog))


# ---- mirrors and thieves -------------------------------------------------


def test_an_echo_of_our_challenge_is_no_proof(doorman, caplog):
    with without_key(doorman.address) as client:
        challenge = client.recv_bytes()
        for answer in (challenge, challenge[11:]):
            with without_key(doorman.address) as other:
                other.recv_bytes()
                other.send_bytes(answer)
                assert other.recv_bytes() == b"#FAILURE#"
        client.send_bytes(challenge)
        assert client.recv_bytes() == b"#FAILURE#"
    assert eventually(lambda: len(doorman.refusals(caplog)) == 3)


def test_a_server_that_echoes_challenges_is_refused(pipe_name):
    with standard.Listener(family=FAMILY) as listener:

        def mirror():
            with listener.accept() as client:
                client.send_bytes(b"#CHALLENGE#" + bytes(20))
                client.recv_bytes()
                client.send_bytes(b"#WELCOME#")
                client.send_bytes(client.recv_bytes())
                assert client.recv_bytes() == b"#FAILURE#"

        served = Outcome(mirror)
        with pytest.raises(npipes.AuthenticationError):
            npipes.connect(listener.address, authkey=KEY)
        served.get()


@pytest.mark.parametrize("victim", ["blocking", "manager"])
def test_one_client_does_not_answer_for_another(victim, manage):
    """A server without the key asks its second client what the first one has asked."""
    log = Log()
    with standard.Listener(family=FAMILY) as listener:

        def thief():
            with listener.accept() as first, listener.accept() as second:
                first.send_bytes(b"#CHALLENGE#" + bytes(20))
                first.recv_bytes()
                first.send_bytes(b"#WELCOME#")
                second.send_bytes(first.recv_bytes())
                with pytest.raises((EOFError, OSError)):
                    second.recv_bytes()

        served = Outcome(thief)
        if victim == "manager":
            manager = manage(authkey=KEY, on_error=lambda conn, error: log.add("error", error))
            manager.connect(listener.address)
            manager.connect(listener.address)
        else:
            victims = [Outcome(npipes.connect, listener.address, authkey=KEY, timeout=3) for _ in range(2)]
        served.get()
        if victim == "manager":
            errors = [str(error) for (error,) in log.wait("error", 1)]
        else:
            errors = []
            for outcome in victims:
                with pytest.raises(npipes.PipeError) as info:
                    outcome.get()
                errors.append(str(info.value))
    assert any("passed a challenge of another client on" in text for text in errors)


# ---- digests -------------------------------------------------------------


@pytest.mark.parametrize("digest", ["md5", "sha256", "sha384", "sha3_256", "sha3_384"])
def test_every_digest_of_multiprocessing_is_taken(doorman, digest):
    """MD5 as well, as Python before 3.12 has no other; that is no weaker without a collision."""
    import hmac

    with without_key(doorman.address) as client:
        challenge = client.recv_bytes()
        name = b"" if digest == "md5" else b"{%s}" % digest.encode()
        client.send_bytes(name + hmac.digest(KEY, challenge[11:], digest))
        assert client.recv_bytes() == b"#WELCOME#"
        asked = b"{%s}" % digest.encode() + bytes(40)
        client.send_bytes(b"#CHALLENGE#" + asked)
        assert client.recv_bytes() == asked[:-40] + hmac.digest(KEY, asked, digest)


def test_other_digests_are_refused(doorman, caplog):
    import hmac

    with without_key(doorman.address) as client:
        challenge = client.recv_bytes()
        client.send_bytes(b"{sha1}" + hmac.digest(KEY, challenge[11:], "sha1"))
        assert client.recv_bytes() == b"#FAILURE#"


WITHOUT_MD5 = """
    import hmac, sys
    from multiprocessing.connection import Listener

    whole = hmac.digest

    def digest(key, message, name):
        if name == "md5":
            raise ValueError("[digital envelope routines] unsupported")
        return whole(key, message, name)

    hmac.digest = digest
    import npipes

    errors = []
    server = npipes.Server(sys.argv[1], authkey=b"key", free_threading_events=True)
    server.on_message = lambda conn, data, cookie: conn.write(data)
    server.on_error = lambda conn, error: errors.append(error)
    with server:
        assert npipes.call(sys.argv[1], b"x", authkey=b"key") == b"x"
        with npipes.connect(sys.argv[1]) as old:
            challenge = old.recv_bytes()
            old.send_bytes(whole(b"key", challenge[11:], "md5"))
            assert old.recv_bytes() == b"#FAILURE#"
    (error,) = errors
    assert isinstance(error, npipes.AuthenticationError), error
    print(error)
"""


def test_without_md5_the_new_form_works_and_the_old_says_why(pipe_name):
    text = run_python(WITHOUT_MD5, pipe_name)
    assert "a client needs MD5, as Python before 3.12 does, which is not available here" in text


# ---- ends ----------------------------------------------------------------


@pytest.mark.parametrize("step", range(3))
def test_stop_ends_handshakes(pipe_name, free, step):
    log = Log()
    names = ("on_connected", "on_disconnected", "on_error")
    server = npipes.Server(pipe_name, authkey=KEY, free_threading_events=free, **log.handlers(*names))
    server.start()
    with without_key(server.address) as client:
        if step:
            challenge = client.recv_bytes()
        if step > 1:
            client.send_bytes(md5_answer(challenge[11:]))
            assert client.recv_bytes() == b"#WELCOME#"
        assert seconds(server.stop) < LIMIT
        with pytest.raises((EOFError, OSError)):
            while True:
                client.recv_bytes()
    assert not log.entries


def test_close_ends_handshakes_of_a_listener(pipe_name):
    with npipes.Listener(pipe_name, authkey=KEY) as listener:
        accepted = Outcome(listener.accept)
        with without_key(listener.address) as client:
            assert client.recv_bytes().startswith(b"#CHALLENGE#")
            assert seconds(listener.close) < LIMIT
            with pytest.raises((EOFError, OSError)):
                client.recv_bytes()
        with pytest.raises(npipes.PipeClosedError):
            accepted.get()


def test_a_manager_stops_inside_a_handshake(serve, manage):
    server = serve()
    log = Log()
    manager = manage(authkey=KEY, **log.handlers("on_connected", "on_disconnected", "on_error"))
    conn = manager.connect(server.address)
    assert eventually(lambda: server.connections)
    assert seconds(manager.stop) < LIMIT
    assert not log.entries and not conn.is_opening


def test_a_server_is_dropped_inside_a_handshake(pipe_name):
    server = npipes.Server(pipe_name, authkey=KEY, free_threading_events=True)
    server.start()
    with without_key(server.address) as client:
        assert client.recv_bytes().startswith(b"#CHALLENGE#")
        del server
        with pytest.raises((EOFError, OSError)):
            client.recv_bytes()


def test_an_interpreter_exits_inside_handshakes(pipe_name):
    code = """
        import logging, os, sys, threading, npipes
        logging.getLogger("npipes").addHandler(logging.NullHandler())   # clients leave, sooner or later
        server = npipes.Server(sys.argv[1], authkey=b"key", free_threading_events=True)
        server.start()
        listener = npipes.Listener(sys.argv[1] + "l", authkey=b"key")
        threading.Thread(target=listener.accept, daemon=True).start()
        manager = npipes.ClientManager(authkey=b"key", free_threading_events=True)
        clients = [npipes.connect(sys.argv[1]) for _ in range(5)]
        clients += [npipes.connect(sys.argv[1] + "l") for _ in range(5)]
        for client in clients:
            client.recv_bytes()
        manager.connect(sys.argv[1] + "l")
        print("leaving")
    """
    assert run_python(code, pipe_name, timeout=30) == "leaving\n"


@linux_only
def test_a_child_of_fork_holds_no_handshake_open(pipe_name):
    with npipes.Listener(pipe_name, authkey=KEY) as listener:
        accepted = Outcome(listener.accept)
        with without_key(listener.address) as client:
            assert client.recv_bytes().startswith(b"#CHALLENGE#")
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.read(reading, 1)
                os._exit(0)
            listener.close()
            assert client.poll(TIMEOUT)
            with pytest.raises((EOFError, OSError)):
                client.recv_bytes()
            os.write(writing, b"x")
            os.waitpid(child, 0)
            os.close(reading)
            os.close(writing)
        with pytest.raises(npipes.PipeClosedError):
            accepted.get()
