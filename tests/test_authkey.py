"""Both ends prove to each other that they have the same key."""

import contextlib
import logging
import multiprocessing
import pickle
import time
import traceback
from multiprocessing.connection import Client as StandardClient

import pytest
from support import FAMILY, TIMEOUT, Log, Outcome, echo, eventually, interrupted

import npipes

KEY = b"a key that nobody guesses"
WRONG = b"another key"


def makers(name):
    """Everything that takes an authkey, as functions of it."""
    return [
        lambda key: npipes.Server(name, authkey=key),
        lambda key: npipes.ClientManager(authkey=key),
        lambda key: npipes.Listener(name, authkey=key),
        lambda key: npipes.connect(name, authkey=key, timeout=0),
        lambda key: npipes.call(name, b"x", authkey=key, timeout=0),
        lambda key: setattr(npipes.Server(name), "authkey", key),
    ]


# ---- the parameter -------------------------------------------------------


@pytest.mark.parametrize("maker", range(6))
def test_a_key_is_bytes_like_and_not_empty(pipe_name, maker):
    make = makers(pipe_name)[maker]
    for value in ("secretive text", 12345678, ["secretive list"], 1.5):
        with pytest.raises(TypeError, match="authkey must be bytes-like or None") as info:
            make(value)
        assert "secretive" not in str(info.value) and "12345678" not in str(info.value)
    for value in (b"", bytearray(), memoryview(b"")):
        with pytest.raises(ValueError, match="authkey must not be empty"):
            make(value)


@pytest.mark.parametrize("cls", [npipes.Server, npipes.ClientManager])
def test_a_key_is_not_given_back(pipe_name, cls):
    thing = cls(pipe_name) if cls is npipes.Server else cls()
    assert thing.authkey is False
    thing.authkey = KEY
    assert thing.authkey is True
    with pytest.raises(ValueError):
        thing.authkey = b""
    assert thing.authkey is True
    thing.authkey = None
    assert thing.authkey is False
    with pytest.raises(AttributeError):
        del thing.authkey


def test_the_number_of_handshakes_is_a_parameter_of_servers(pipe_name):
    assert npipes.Server(pipe_name).max_handshakes == 128
    assert npipes.Server(pipe_name, max_handshakes=1).max_handshakes == 1
    for value in (0, -1, 1 << 31):
        with pytest.raises(ValueError, match="max_handshakes must be from 1"):
            npipes.Server(pipe_name, max_handshakes=value)


@pytest.mark.parametrize(
    "key",
    [KEY, bytearray(KEY), memoryview(KEY), b"\0", b"k" * 5000, multiprocessing.process.AuthenticationString(KEY)],
    ids=["bytes", "bytearray", "view", "nul", "long", "multiprocessing"],
)
def test_any_bytes_are_a_key(serve, key):
    server = serve(authkey=key, on_message=echo)
    assert npipes.call(server.address, b"x", authkey=key) == b"x"
    with StandardClient(server.address, FAMILY, bytes(key)) as client:
        client.send_bytes(b"y")
        assert client.recv_bytes() == b"y"


def test_a_key_is_copied_and_read_by_start(serve):
    key = bytearray(KEY)
    server = serve(authkey=key, on_message=echo)
    key[:] = bytes(len(key))
    assert npipes.call(server.address, b"x", authkey=KEY) == b"x"
    server.authkey = WRONG
    assert npipes.call(server.address, b"x", authkey=KEY) == b"x"
    server.stop()
    server.start()
    assert npipes.call(server.address, b"x", authkey=WRONG) == b"x"
    with pytest.raises(npipes.AuthenticationError):
        npipes.call(server.address, b"x", authkey=KEY)


def test_a_byte_stream_has_no_handshake(pipe_name):
    server = npipes.Server(pipe_name, authkey=KEY, mode="byte")
    with pytest.raises(ValueError, match="authkey needs mode='message'"):
        server.start()
    assert not server.is_running
    manager = npipes.ClientManager(authkey=KEY, mode="byte")
    with pytest.raises(ValueError, match="authkey needs mode='message'"):
        manager.connect(pipe_name)
    server.mode = "message"
    with server:
        assert server.is_running


# ---- the error -----------------------------------------------------------


def test_the_error_is_that_of_multiprocessing_too():
    error = npipes.AuthenticationError
    assert issubclass(error, npipes.AccessDeniedError) and issubclass(error, PermissionError)
    assert issubclass(error, multiprocessing.AuthenticationError)
    assert (error.__module__, error.__qualname__) == ("npipes", "AuthenticationError")
    made = error(13, "text")
    assert pickle.loads(pickle.dumps(made)).args == (13, "text")
    with pytest.raises(AttributeError, match="no attribute 'AuthenticationErrors'"):
        npipes.AuthenticationErrors  # noqa: B018


# ---- both ends are ours --------------------------------------------------


@contextlib.contextmanager
def echo_listener(name, key, count=1):
    """A Listener that answers so many clients, one after another."""

    def run():
        for _ in range(count):
            with listener.accept(timeout=TIMEOUT) as client:
                client.send_bytes(client.recv_bytes(timeout=TIMEOUT))

    with npipes.Listener(name, authkey=key) as listener:
        outcome = Outcome(run)
        yield listener
        outcome.get()


@pytest.fixture(params=["server", "listener"])
def echo_address(request, serve, pipe_name, free):
    """Serves one client that has the key."""
    if request.param == "server":
        yield serve(authkey=KEY, free_threading_events=free, on_message=echo).address
    else:
        with echo_listener(pipe_name, KEY) as listener:
            yield listener.address


def test_a_blocking_client_is_let_in(echo_address):
    with npipes.connect(echo_address, authkey=KEY) as client:
        assert client.call(b"hello", timeout=TIMEOUT) == b"hello"


def test_a_managers_client_is_let_in(echo_address, manage):
    log = Log()
    manager = manage(authkey=KEY, **log.handlers("on_connected", "on_message", "on_error"))
    conn = manager.connect(echo_address)
    log.wait("on_connected")
    assert manager.connections == [conn]
    conn.write(b"hello")
    assert log.wait("on_message") == [(conn, b"hello", None)]
    assert not log.of("on_error")


def test_a_client_of_the_standard_library_is_let_in(echo_address):
    with StandardClient(echo_address, FAMILY, KEY) as client:
        client.send_bytes(b"hello")
        assert client.recv_bytes() == b"hello"


# ---- keys that differ ----------------------------------------------------


def test_a_wrong_key_is_one_error_at_the_server(serve, free):
    log = Log()
    server = serve(
        authkey=KEY, free_threading_events=free, on_message=echo, **log.handlers("on_connected", "on_disconnected", "on_error")
    )
    with pytest.raises(npipes.AuthenticationError, match="refused the authkey") as info:
        npipes.connect(server.address, authkey=WRONG)
    assert info.value.operation == "connect" and server.address in str(info.value)
    with pytest.raises(multiprocessing.AuthenticationError):
        StandardClient(server.address, FAMILY, WRONG)
    for conn, error in log.wait("on_error", 2):
        assert conn is None
        assert type(error) is npipes.AuthenticationError
        assert (error.operation, error.cookie) == ("accept", None)
        assert "a client does not have the same authkey" in str(error)
    assert npipes.call(server.address, b"x", authkey=KEY) == b"x"
    log.wait("on_disconnected")
    assert sorted(log.names()) == ["on_connected", "on_disconnected", "on_error", "on_error"]
    assert server.stats.errors == 2 and server.stats.connections_total == 1


def test_a_managers_client_with_a_wrong_key_is_one_error(serve, manage, free):
    server = serve(authkey=KEY, on_error=lambda conn, error: None)
    log = Log()
    manager = manage(authkey=WRONG, free_threading_events=free, **log.handlers("on_connected", "on_disconnected", "on_error"))
    conn = manager.connect(server.address)
    ((about, error),) = log.wait("on_error")
    assert about is conn and conn.error is error
    assert type(error) is npipes.AuthenticationError and error.operation == "connect"
    assert eventually(lambda: not conn.is_opening)
    assert not conn.is_connected and manager.connections == []
    manager.stop()
    assert log.names() == ["on_error"]


def test_a_listener_logs_who_is_not_let_in_and_waits_on(pipe_name, caplog):
    with npipes.Listener(pipe_name, authkey=KEY) as listener, caplog.at_level("WARNING", "npipes"):
        accepted = Outcome(listener.accept, timeout=TIMEOUT)
        for _ in range(3):
            with pytest.raises(npipes.AuthenticationError):
                npipes.connect(listener.address, authkey=WRONG)
        with npipes.connect(listener.address, authkey=KEY), accepted.get():
            pass
        assert [r.getMessage().count("does not have the same authkey") for r in caplog.records] == [1, 1, 1]


def test_a_server_that_has_another_key_is_refused():
    """One that welcomes everybody has to prove that it has it, too."""
    with multiprocessing.connection.Listener(family=FAMILY) as listener:

        def impostor():
            with listener.accept() as client:
                client.send_bytes(b"#CHALLENGE#" + b"{sha256}" + b"c" * 40)
                client.recv_bytes()
                client.send_bytes(b"#WELCOME#")
                multiprocessing.connection.answer_challenge(client, WRONG)

        served = Outcome(impostor)
        with pytest.raises(npipes.AuthenticationError, match="does not have the same authkey"):
            npipes.connect(listener.address, authkey=KEY)
        with pytest.raises(multiprocessing.AuthenticationError):
            served.get()


# ---- no key at one end ---------------------------------------------------


def test_a_client_without_a_key_gets_a_challenge_and_nothing_else(serve):
    log = Log()
    server = serve(authkey=KEY, on_message=echo, **log.handlers("on_connected", "on_error"))
    with npipes.connect(server.address) as client:
        assert client.recv_bytes(timeout=TIMEOUT).startswith(b"#CHALLENGE#{sha256}")
        client.send_bytes(b"hello")
        assert client.recv_bytes(timeout=TIMEOUT) == b"#FAILURE#"
        with pytest.raises((npipes.ConnectionClosed, npipes.PipeResetError)):
            client.recv_bytes(timeout=TIMEOUT)
    log.wait("on_error")
    assert log.names() == ["on_error"]


def test_a_server_without_a_key_is_not_waited_for_longer_than_timeout(serve):
    server = serve()
    for timeout, least in ((0, 1), (1.5, 1.5)):
        begin = time.monotonic()
        with pytest.raises(npipes.PipeTimeoutError, match=f"within {least} seconds") as info:
            npipes.connect(server.address, authkey=KEY, timeout=timeout)
        assert least <= round(time.monotonic() - begin, 3) < TIMEOUT
        assert "authkey" in str(info.value)


def test_what_a_server_without_a_key_says_is_no_handshake(serve):
    server = serve(on_connected=lambda conn: conn.write(b"hello, whoever you are"))
    with pytest.raises(npipes.AuthenticationError, match="perhaps it has no authkey"):
        npipes.connect(server.address, authkey=KEY)
    server.on_connected = lambda conn: conn.write(b"x" * 100_000)
    with pytest.raises(npipes.ProtocolError, match="at most 256.*no authkey"):
        npipes.connect(server.address, authkey=KEY)


def test_a_server_that_leaves_inside_the_handshake_is_tried_again(serve, manage):
    """It had to make room, perhaps, or is about to stop."""
    log = Log()
    server = serve(on_connected=lambda conn: (log.add("tried"), conn.close()))
    with pytest.raises(npipes.ConnectionClosed, match="the server closed before"):
        npipes.connect(server.address, authkey=KEY, timeout=0)
    assert len(log.of("tried")) == 1
    begin = time.monotonic()
    with pytest.raises(npipes.ConnectionClosed, match="the server closed before"):
        npipes.connect(server.address, authkey=KEY, timeout=0.5)
    assert 0.5 <= round(time.monotonic() - begin, 3) < TIMEOUT
    assert len(log.of("tried")) > 3
    manager = manage(authkey=KEY, on_error=lambda conn, error: log.add("error", error))
    before = len(log.of("tried"))
    manager.connect(server.address, timeout=0.5)
    ((error,),) = log.wait("error")
    assert type(error) is npipes.PipeClosedError and error.operation == "connect"
    assert len(log.of("tried")) > before + 2


def test_a_server_that_stops_inside_the_handshake_is_waited_for(serve, manage, pipe_name):
    log = Log()
    first = npipes.Server(pipe_name, free_threading_events=True, **log.handlers("on_connected"))
    first.start()
    connected = Outcome(npipes.connect, pipe_name, authkey=KEY, timeout=TIMEOUT)
    manager = manage(authkey=KEY, on_connected=log.handler("managed"))
    manager.connect(pipe_name, timeout=TIMEOUT)
    log.wait("on_connected", 2)
    first.stop()
    serve(authkey=KEY, on_message=echo)
    with connected.get() as client:
        assert client.call(b"x", timeout=TIMEOUT) == b"x"
    log.wait("managed")


# ---- before and after ----------------------------------------------------


def test_a_write_before_the_handshake_is_over_is_refused(serve, manage):
    server = serve()  # says nothing
    manager = manage(authkey=KEY)
    conn = manager.connect(server.address)
    assert eventually(lambda: server.connections)
    assert conn.is_opening and not conn.is_connected
    assert manager.connections == [] and manager.stats.connections == 0
    with pytest.raises(npipes.PipeClosedError, match="not open yet"):
        conn.write(b"too early")
    assert manager.broadcast(b"too early") == 0
    conn.close()
    assert eventually(lambda: not conn.is_opening)


def test_clients_that_have_yet_to_prove_the_key_are_no_connections(serve):
    log = Log()
    server = serve(authkey=KEY, **log.handlers("on_connected", "on_error"))
    with StandardClient(server.address, FAMILY) as client:
        assert client.recv_bytes().startswith(b"#CHALLENGE#")
        assert server.connections == []
        assert (server.stats.connections, server.stats.connections_total) == (0, 0)
        assert (server.stats.messages_in, server.stats.messages_out) == (0, 0)
        assert server.broadcast(b"news") == 0
        assert not log.entries


def test_what_a_client_sends_with_its_last_word_is_delivered(serve, free):
    """It need not wait for anything once it has proved the key, and been given proof."""
    log = Log()
    server = serve(authkey=KEY, free_threading_events=free, **log.handlers("on_message"))
    for number in range(20):
        with StandardClient(server.address, FAMILY) as client:
            multiprocessing.connection.answer_challenge(client, KEY)

            class Pipelined:
                """Sends a request together with the welcome."""

                def send_bytes(self, data, client=client, number=number):
                    client.send_bytes(data)
                    if data == b"#WELCOME#":
                        client.send_bytes(b"request %d" % number)

                recv_bytes = client.recv_bytes

            multiprocessing.connection.deliver_challenge(Pipelined(), KEY)
            messages = log.wait("on_message", number + 1)
    assert sorted(message[1] for message in messages) == sorted(b"request %d" % number for number in range(20))


def test_reconnecting_clients_prove_it_again(pipe_name, manage):
    log = Log()
    manager = manage(
        authkey=KEY,
        reconnect=True,
        reconnect_delay=(0.01, 0.05),
        **log.handlers("on_connected", "on_disconnected", "on_message", "on_error"),
    )
    conn = manager.connect(pipe_name, timeout=None)
    for life in range(1, 4):
        with npipes.Server(pipe_name, authkey=KEY, free_threading_events=True, on_message=echo):
            log.wait("on_connected", life)
            conn.write(b"hello")
            log.wait("on_message", life)
        log.wait("on_disconnected", life)
        quiet = {"free_threading_events": True, "on_error": lambda conn, error: None}
        with npipes.Server(pipe_name, authkey=WRONG, **quiet) as server:
            log.wait("on_error", life)
            assert eventually(lambda server=server: server.stats.errors >= 3)
    assert {type(error) for _, error in log.of("on_error")} == {npipes.AuthenticationError}
    assert len(log.of("on_error")) == 3


# ---- secrets stay secret -------------------------------------------------


def test_a_key_is_in_no_text(serve, manage, pipe_name, new_name, caplog):
    """No error, no repr, no log and no traceback has it."""
    said = []
    wrong = b"a wrong key that is secret too"
    with caplog.at_level(logging.DEBUG):
        server = serve(authkey=KEY)
        manager = manage(authkey=wrong)
        listener = npipes.Listener(new_name(), authkey=KEY)
        conn = manager.connect(server.address)
        assert eventually(lambda: conn.error)
        accepted = Outcome(listener.accept, timeout=TIMEOUT)
        for address in (server.address, listener.address):
            for call in (
                lambda address=address: npipes.connect(address, authkey=wrong),
                lambda address=address: npipes.call(address, b"x", authkey=wrong),
            ):
                with pytest.raises(npipes.AuthenticationError) as info:
                    call()
                error = info.value
                said += [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
        with npipes.connect(listener.address, authkey=KEY) as client, accepted.get() as other:
            said += [repr(client), repr(other)]
        assert eventually(lambda: server.stats.errors >= 3)
        for thing in (server, manager, listener, conn):
            said += [repr(thing), str(thing)]
            said += [repr(getattr(thing, name)) for name in dir(thing) if name != "peer"]
        listener.close()
    said += [record.getMessage() for record in caplog.records]
    assert len(caplog.records) >= 5
    for key in (KEY, wrong):
        for form in (key.decode(), repr(key), key.hex(), repr(list(key))[1:-1]):
            assert not [text for text in said if form in text]


# ---- signals -------------------------------------------------------------


def test_ctrl_c_ends_a_connect_that_waits_for_a_server_to_prove_it(serve):
    server = serve()
    interrupted(lambda: npipes.connect(server.address, authkey=KEY, timeout=TIMEOUT), lambda: server.connections)


def test_ctrl_c_ends_an_accept_and_no_handshake(pipe_name):
    with npipes.Listener(pipe_name, authkey=KEY) as listener:
        with StandardClient(listener.address, FAMILY) as client:
            interrupted(lambda: listener.accept(timeout=TIMEOUT), client.poll)  # a handshake has begun
            accepted = Outcome(listener.accept, timeout=TIMEOUT)
            multiprocessing.connection.answer_challenge(client, KEY)
            multiprocessing.connection.deliver_challenge(client, KEY)
            with accepted.get() as server:
                client.send_bytes(b"hello")
                assert server.recv_bytes(timeout=TIMEOUT) == b"hello"
