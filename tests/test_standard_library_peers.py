"""Programs that know nothing of npipes are its clients as they are."""

import asyncio
import pickle
import shutil
import socket
import subprocess
import threading
from multiprocessing.connection import Client as StandardClient

import pytest
from support import (
    FAMILY,
    TIMEOUT,
    WINDOWS,
    Log,
    echo,
    python_of,
    frame,
    linux_only,
    python_address,
    raw_client,
    receive_frame,
    windows_only,
)

CONVERSATION = """
import sys
from multiprocessing.connection import Client

address, family = sys.argv[1:3]
client = Client(address, family)
for size in (1, 4, 127, 128, 129, 16383, 16384, 16385, 65536, 131072, 1000000, 9000000):
    data = bytes(bytearray(range(256))) * (size // 256 + 1)
    data = data[:size]
    client.send_bytes(data)
    assert client.recv_bytes() == data, size
things = [1, "two", None, [3.0, {"four": (5,)}], b"six", "x" * 100000]
for thing in things:
    client.send(thing)
    assert client.recv() == thing
client.send_bytes(b"abcdef", 2, 3)
assert client.poll(10)
buffer = bytearray(10)
assert client.recv_bytes_into(buffer, 1) == 3
assert buffer == b"\\0cde" + bytes(6)
client.send_bytes(b"")
client.send_bytes(b"after an empty one")
assert client.recv_bytes() == b"after an empty one"
client.close()
print("done")
"""


@pytest.mark.parametrize("version", [f"3.{minor}" for minor in range(8, 15)])
def test_multiprocessing_of_every_python_is_a_client(serve, free, version):
    python = python_of(version)
    log = Log()
    server = serve(free_threading_events=free, on_message=echo, **log.handlers("on_disconnected", "on_error"))
    done = subprocess.run(
        [python, "-c", CONVERSATION, server.address, FAMILY], timeout=60, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    ((conn,),) = log.wait("on_disconnected")
    assert conn.error is None and not log.of("on_error")


def test_the_family_is_guessed_from_the_address(serve):
    server = serve(on_message=echo)
    with StandardClient(server.address) as client:
        client.send(["an", "object"])
        assert client.recv() == ["an", "object"]


def test_objects_are_pickles_to_the_server(serve):
    log = Log()
    server = serve(**log.handlers("on_message"))
    with StandardClient(server.address, FAMILY) as client:
        client.send({"a": 1})
        ((conn, data, _),) = log.wait("on_message")
        assert pickle.loads(data) == {"a": 1}
        conn.write(pickle.dumps(["reply"]))
        assert client.recv() == ["reply"]


def test_the_standard_client_sees_the_end(serve):
    server = serve(on_message=lambda conn, data, cookie: conn.close())
    with StandardClient(server.address, FAMILY) as client:
        client.send_bytes(b"bye")
        with pytest.raises(EOFError):
            client.recv_bytes()


def test_multiprocessing_wait_sees_messages(serve):
    from multiprocessing.connection import wait

    server = serve(on_message=echo)
    with StandardClient(server.address, FAMILY) as a, StandardClient(server.address, FAMILY) as b:
        assert wait([a, b], timeout=0) == []
        b.send_bytes(b"x")
        assert wait([a, b], timeout=TIMEOUT) == [b]
        assert b.recv_bytes() == b"x"


# ---- Linux ---------------------------------------------------------------


@linux_only
def test_multiprocessing_is_a_client_of_an_abstract_name(serve, pipe_name):
    server = serve("@" + pipe_name, on_message=echo)
    with StandardClient(python_address(server.address), FAMILY) as client:
        client.send("x")
        assert client.recv() == "x"


@linux_only
def test_a_client_may_have_an_address_of_its_own(serve, tmp_path):
    server = serve(on_message=echo)
    own = tmp_path / "client"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.bind(str(own))
        client.connect(server.address)
        client.sendall(frame(b"from an address"))
        assert receive_frame(client) == b"from an address"
        server.stop()
        assert client.recv(1) == b""
    assert own.is_socket()  # the server removes its own file only


@linux_only
def test_asyncio_streams_are_a_client(serve):
    server = serve(on_message=echo)

    async def main():
        reader, writer = await asyncio.open_unix_connection(server.address)
        for size in (1, 1000, 500_000):
            data = b"x" * size
            writer.write(len(data).to_bytes(4, "big") + data)
            await writer.drain()
            length = int.from_bytes(await reader.readexactly(4), "big")
            assert await reader.readexactly(length) == data
        writer.close()
        await writer.wait_closed()

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))


@linux_only
def test_socat_is_a_client_in_byte_mode(serve):
    socat = shutil.which("socat")
    if not socat:
        pytest.skip("no socat on this machine")
    server = serve(mode="byte", on_message=lambda conn, data, cookie: conn.write(data.upper()))
    done = subprocess.run(
        [socat, "-t5", "-", f"UNIX-CONNECT:{server.address}"], input=b"hello from a shell\n", capture_output=True, timeout=TIMEOUT
    )
    assert done.stdout == b"HELLO FROM A SHELL\n"


@linux_only
def test_socat_is_a_client_in_message_mode_when_it_frames(serve):
    socat = shutil.which("socat")
    if not socat:
        pytest.skip("no socat on this machine")
    server = serve(on_message=echo)
    done = subprocess.run(
        [socat, "-t5", "-", f"UNIX-CONNECT:{server.address}"],
        input=b"\0\0\0\5hello\0\0\0\2ab",
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.stdout == b"\0\0\0\5hello\0\0\0\2ab"


@linux_only
def test_a_client_may_use_any_system_call_to_send(serve):
    server = serve(on_message=echo)
    with raw_client(server) as client:
        client.sendmsg([b"\0\0", b"\0\3a", b"bc"])
        assert client.recv(7, socket.MSG_WAITALL) == b"\0\0\0\3abc"


# ---- Windows -------------------------------------------------------------


class Collector(asyncio.Protocol):
    def __init__(self):
        self.received = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received.put_nowait(data)

    def connection_lost(self, error):
        self.lost.set_result(error)


@windows_only
def test_asyncios_pipe_connection_is_a_client(serve):
    server = serve(on_message=echo)

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_pipe_connection(Collector, server.address)
        for size in (1, 1000, 100_000):
            transport.write(b"x" * size)
            got = b""
            while len(got) < size:
                got += await protocol.received.get()
            assert got == b"x" * size
        transport.close()
        await protocol.lost

    loop = asyncio.ProactorEventLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
    finally:
        loop.close()


@pytest.fixture
def win32():
    """pywin32's modules (win32file, win32pipe, win32con)."""
    if not WINDOWS:
        pytest.skip("pywin32 is Windows's")
    return tuple(pytest.importorskip(name, reason="no pywin32") for name in ("win32file", "win32pipe", "win32con"))


def open_with_pywin32(win32, address):
    win32file, win32pipe, win32con = win32
    win32pipe.WaitNamedPipe(address, 5000)
    handle = win32file.CreateFile(
        address, win32con.GENERIC_READ | win32con.GENERIC_WRITE, 0, None, win32con.OPEN_EXISTING, 0, None
    )
    win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
    return handle


@windows_only
def test_pywin32_is_a_client(serve, win32):
    win32file, _, _ = win32
    server = serve(on_message=echo)
    handle = open_with_pywin32(win32, server.address)
    for size in (1, 100, 60_000):
        win32file.WriteFile(handle, b"x" * size)
        assert win32file.ReadFile(handle, 65536) == (0, b"x" * size)
    handle.Close()


@windows_only
def test_pywin32_may_call_and_transact(serve, win32):
    _, win32pipe, _ = win32
    server = serve(on_message=lambda conn, data, cookie: conn.write(data.upper()))
    assert win32pipe.CallNamedPipe(server.address, b"call", 100, 5000) == b"CALL"
    handle = open_with_pywin32(win32, server.address)
    assert win32pipe.TransactNamedPipe(handle, b"transact", 100) == (0, b"TRANSACT")
    handle.Close()


@windows_only
def test_a_message_longer_than_the_clients_read_comes_in_pieces(serve, win32):
    win32file, _, _ = win32
    server = serve(on_message=echo)
    handle = open_with_pywin32(win32, server.address)
    win32file.WriteFile(handle, b"x" * 1000)
    more_data = 234
    pieces = []
    code = more_data
    while code == more_data:
        code, piece = win32file.ReadFile(handle, 300)
        pieces.append(bytes(piece))
    assert [len(piece) for piece in pieces] == [300, 300, 300, 100]
    handle.Close()


@windows_only
def test_waiting_for_a_busy_pipe_works_as_for_any_server(serve, win32):
    _, win32pipe, _ = win32
    server = serve(on_message=echo, max_instances=1)
    first = open_with_pywin32(win32, server.address)
    done = []

    def second():
        with StandardClient(server.address, FAMILY) as client:
            client.send_bytes(b"x")
            done.append(client.recv_bytes())

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.2)
    assert not done
    first.Close()
    thread.join(TIMEOUT)
    assert done == [b"x"]
