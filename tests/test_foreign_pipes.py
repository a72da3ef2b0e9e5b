"""Clients, managers and listeners of npipes with the other end in the hands of Windows' own functions, called
through npipes.native or pywin32."""

import contextlib

import pytest
from support import TIMEOUT, WINDOWS, Log, Outcome, eventually, windows_only

import npipes
from npipes.constants import *

if WINDOWS:
    from npipes.native import *

pytestmark = windows_only

MODE = PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
SAFE = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
LONG = bytes(range(256)) * 1000


class NativeEnd:
    """What both kinds of foreign ends offer: whole messages, whatever the size of a read."""

    def __init__(self, handle):
        self.handle = handle

    @classmethod
    def server(cls, address):
        return cls(CreateNamedPipe(address, PIPE_ACCESS_DUPLEX, MODE | PIPE_REJECT_REMOTE_CLIENTS))

    @classmethod
    def client(cls, address):
        end = cls(CreateFile(address, GENERIC_READ | GENERIC_WRITE, dwFlagsAndAttributes=SAFE))
        SetNamedPipeHandleState(end.handle, PIPE_READMODE_MESSAGE)
        return end

    def accept(self):
        ConnectNamedPipe(self.handle)

    def send(self, data):
        WriteFile(self.handle, data)

    def receive(self):
        data, more = ReadFile(self.handle, 4096)
        while more:
            part, more = ReadFile(self.handle, 4096)
            data += part
        return data

    def close(self):
        CloseHandle(self.handle)


class Pywin32End(NativeEnd):
    @classmethod
    def server(cls, address):
        win32pipe = pytest.importorskip("win32pipe")
        access = int(PIPE_ACCESS_DUPLEX)
        return cls(win32pipe.CreateNamedPipe(address, access, int(MODE), 2, 4096, 4096, 0, None))

    @classmethod
    def client(cls, address):
        win32file = pytest.importorskip("win32file")
        win32pipe = pytest.importorskip("win32pipe")
        access = int(GENERIC_READ | GENERIC_WRITE)
        end = cls(win32file.CreateFile(address, access, 0, None, int(OPEN_EXISTING), int(SAFE), None))
        win32pipe.SetNamedPipeHandleState(end.handle, int(PIPE_READMODE_MESSAGE), None, None)
        return end

    def accept(self):
        import win32pipe

        win32pipe.ConnectNamedPipe(self.handle, None)

    def send(self, data):
        import win32file

        win32file.WriteFile(self.handle, data)

    def receive(self):
        import win32file

        code, data = win32file.ReadFile(self.handle, 4096)
        while code == ERROR_MORE_DATA:
            code, part = win32file.ReadFile(self.handle, 4096)
            data += part
        return data

    def close(self):
        self.handle.Close()


@pytest.fixture(params=[NativeEnd, Pywin32End], ids=["native", "pywin32"])
def kind(request):
    return request.param


@pytest.fixture
def address(pipe_name):
    return npipes.address(pipe_name)


@contextlib.contextmanager
def closing_both(foreign, ours):
    """A foreign end that waits inside a synchronous call would keep its handle from being closed."""
    with ours, contextlib.closing(foreign):
        yield ours


def test_a_client_of_a_foreign_server(kind, address):
    server = kind.server(address)
    with closing_both(server, npipes.connect(address)) as client:
        server.accept()
        for message in (b"hello", LONG):
            sending = Outcome(client.send_bytes, message)
            assert server.receive() == message
            sending.get()
            answering = Outcome(server.send, message[::-1])
            assert client.recv_bytes(timeout=TIMEOUT) == message[::-1]
            answering.get()


def test_a_client_sees_the_end_of_a_foreign_server(kind, address):
    server = kind.server(address)
    with npipes.connect(address) as client:
        server.accept()
        server.send(b"last")
        server.close()
        assert client.recv_bytes(timeout=TIMEOUT) == b"last"
        with pytest.raises(npipes.ConnectionClosed):
            client.recv_bytes(timeout=TIMEOUT)


def test_a_client_waits_for_a_foreign_server_that_is_busy(kind, address):
    server = kind.server(address)
    with npipes.connect(address):
        server.accept()
        waiting = Outcome(npipes.connect, address)
        assert waiting.is_waiting()
        second = kind.server(address)
        with closing_both(second, waiting.get()) as client:
            second.accept()
            second.send(b"now")
            assert client.recv_bytes(timeout=TIMEOUT) == b"now"
    server.close()


@pytest.mark.parametrize("access", ["PIPE_ACCESS_INBOUND", "PIPE_ACCESS_OUTBOUND"])
def test_a_foreign_server_of_one_direction_is_refused(address, access):
    server = CreateNamedPipe(address, globals()[access], MODE | PIPE_REJECT_REMOTE_CLIENTS)
    with pytest.raises(npipes.PipeError) as caught:
        npipes.connect(address, timeout=0)
    assert isinstance(caught.value, PermissionError) and address in str(caught.value)
    CloseHandle(server)


@pytest.fixture
def stream(address):
    """A foreign server that is no npipes one: its pipe carries a stream."""
    server = CreateNamedPipe(address, PIPE_ACCESS_DUPLEX, PIPE_TYPE_BYTE | PIPE_REJECT_REMOTE_CLIENTS)
    yield server
    CloseHandle(server)


def test_a_foreign_server_of_a_stream_is_refused_in_words(address, stream):
    with pytest.raises(npipes.ProtocolError, match="is of byte type") as caught:
        npipes.connect(address)
    assert address in str(caught.value)


def test_a_manager_is_told_of_a_foreign_server_of_a_stream(address, stream, manage):
    log = Log()
    conn = manage(**log.handlers("on_connected", "on_error")).connect(address)
    told, error = log.wait("on_error")[0]
    assert told is conn and isinstance(error, npipes.ProtocolError) and "byte type" in str(error)
    assert eventually(lambda: not conn.is_opening) and not log.of("on_connected")


def test_a_manager_in_byte_mode_talks_to_a_foreign_server_of_a_stream(address, stream, manage):
    log = Log()
    conn = manage(mode="byte", **log.handlers("on_message")).connect(address)
    ConnectNamedPipe(stream)
    assert eventually(lambda: conn.is_connected)
    conn.write(b"to it")
    assert ReadFile(stream, 100)[0] == b"to it"
    WriteFile(stream, b"and back")
    assert log.wait("on_message")[0][1] == b"and back"


def test_a_manager_of_clients_of_a_foreign_server(kind, address):
    server = kind.server(address)
    manager = npipes.ClientManager(free_threading_events=True)
    manager.on_message = lambda conn, data, cookie: conn.write(data[::-1])
    with manager:
        conn = manager.connect(address)
        server.accept()
        for message in (b"hello", LONG):
            server.send(message)
            assert server.receive() == message[::-1]
        assert conn.is_connected
    server.close()


def test_a_listener_of_foreign_clients(kind, address):
    with npipes.Listener(address) as listener:
        client = kind.client(address)
        with closing_both(client, listener.accept(timeout=TIMEOUT)) as conn:
            for message in (b"hello", LONG):
                sending = Outcome(client.send, message)
                assert conn.recv_bytes(timeout=TIMEOUT) == message
                sending.get()
                answering = Outcome(conn.send_bytes, message[::-1])
                assert client.receive() == message[::-1]
                answering.get()


def test_a_server_of_foreign_clients(kind, serve):
    server = serve(on_message=lambda conn, data, cookie: conn.write(data[::-1]))
    client = kind.client(server.address)
    for message in (b"hello", LONG):
        client.send(message)
        assert client.receive() == message[::-1]
    client.close()
