"""What a type checker must accept, and, where a line ignores an error, what it must refuse.

Read by mypy, never run.
"""

import os
import selectors
import sys
from pathlib import Path
from pickle import PickleBuffer, UnpicklingError
from typing import Any, assert_type

import npipes
from npipes import constants

# ---- making a server -----------------------------------------------------

npipes.Server("demo")
npipes.Server(Path("/run/demo"))
npipes.Server(
    "demo",
    threads=4,
    free_threading_events=True,
    message_buffer_size=65536,
    continuous_read=False,
    max_instances=None,
    listeners=16,
    max_message_size=1 << 30,
    message_timeout=None,
    write_high_water=None,
    max_pending_bytes=1 << 20,
    access=0o660,
    authkey=None,
    mode="byte",
    kernel_buffer_size=1 << 20,
    spin_us=50,
)
npipes.Server()  # type: ignore[call-arg]
npipes.Server("demo", 4)  # type: ignore[call-arg]
npipes.Server(b"demo")  # type: ignore[arg-type]
npipes.Server("demo", threads="4")  # type: ignore[arg-type]
npipes.Server("demo", mode="stream")  # type: ignore[arg-type]
npipes.Server("demo", authkey="secret")  # type: ignore[arg-type]
npipes.Server("demo", max_handshakes=None)  # type: ignore[arg-type]
npipes.Server("demo", on_close=None)  # type: ignore[call-arg]

# ---- handlers ------------------------------------------------------------


def on_message(conn: npipes.ServerConnection, data: bytes, cookie: Any) -> None:
    conn.write(data)


def on_error(conn: npipes.ServerConnection | None, error: npipes.PipeError) -> None:
    print(conn, error.operation, error.cookie, error.errno)


def with_an_answer(conn: npipes.ServerConnection, data: bytes, cookie: object) -> int:
    return 1


def too_few(conn: npipes.ServerConnection) -> None: ...


server = npipes.Server("demo", on_message=on_message, on_error=on_error)
server.on_message = with_an_answer
server.on_message = None
server.on_messages = lambda conn, messages: conn.write(b"".join(messages))
server.on_ready = lambda: print("ready")
server.on_connected = server.on_drained = server.on_disconnected = too_few
server.on_sent = lambda conn, cookie: print(conn, cookie)
server.on_message = too_few  # type: ignore[assignment]
npipes.Server("demo", on_message=too_few)  # type: ignore[arg-type]


@server.event
def on_connected(conn: npipes.ServerConnection) -> int:
    conn.custom_data = {"seen": 0}
    return 5


assert_type(on_connected(server.connections[0]), int)
server.event(5)  # type: ignore[type-var]


class Echo(npipes.Server):
    def __init__(self, name: str, greeting: bytes) -> None:
        super().__init__(name, free_threading_events=True)
        self.greeting = greeting

    def on_connected(self, conn: npipes.ServerConnection) -> None:
        conn.write(self.greeting)

    def on_message(self, conn: npipes.ServerConnection, data: bytes, cookie: Any) -> None:
        conn.write(data, cookie=cookie)


# ---- a server's life -----------------------------------------------------

with Echo("demo", b"hello") as echo:
    assert_type(echo, Echo)
    assert_type(echo.run(), None)
    echo.run(timeout=None)
    echo.run(0.5)
    assert_type(echo.dispatch(), int)
    echo.dispatch(timeout=None)
    assert_type(echo.broadcast(b"news"), int)
    echo.broadcast(memoryview(b"news"), cookie=1)
    echo.broadcast("news")  # type: ignore[arg-type]
    assert_type(echo.address, str)
    assert_type(echo.is_running, bool)
    assert_type(echo.connections, list[npipes.ServerConnection])
    assert_type(echo.fileno(), int)
    assert_type(echo.wait_handle, int | None)
    selectors.DefaultSelector().register(echo, selectors.EVENT_READ)
    echo.address = "demo"  # type: ignore[misc]


def ends_anyway() -> int:
    with server:
        return 1  # mypy knows that the block does not swallow exceptions


server.start()
server.quit()
server.stop()

# ---- a connection --------------------------------------------------------


def look(conn: npipes.ServerConnection) -> None:
    conn.write(b"bytes")
    conn.write(bytearray(5), 7)
    conn.write(memoryview(b"x"), cookie=object())
    conn.write("text")  # type: ignore[arg-type]
    conn.write_many([b"a", bytearray(b"b")], cookie=1)
    conn.write_many(memoryview(part) for part in (b"a", b"b"))
    conn.write_many(["text"])  # type: ignore[list-item]
    conn.read()
    conn.read(cookie=5)
    conn.close()
    assert_type(conn.handle, int)
    assert_type(conn.is_connected, bool)
    assert_type(conn.is_opening, bool)
    assert_type(conn.pending_bytes, int)
    assert_type(conn.server, npipes.Server | None)
    assert_type(conn.error, npipes.PipeError | None)
    assert_type(conn.peer, npipes.Peer)
    assert_type(conn.peer.pid, int | None)
    assert_type(conn.peer.user, str | None)
    assert_type(conn.peer[3], str | None)
    conn.peer.pid = 5  # type: ignore[misc]
    pid, uid, gid, sid, user = conn.peer
    assert_type(uid, int | None)
    assert_type(sid, str | None)


class Mine(npipes.ServerConnection): ...  # type: ignore[misc]


# ---- the blocking side ----------------------------------------------------

with npipes.connect("demo", timeout=None, authkey=None, max_message_size=1 << 20) as client:
    assert_type(client, npipes.Client)
    client.send_bytes(b"x", 0, None, timeout=1)
    client.send_bytes(bytearray(5), offset=1, size=2)
    client.send_bytes("text")  # type: ignore[arg-type]
    client.send_many([b"x", memoryview(b"y")], timeout=0.5)
    client.send_many(["text"])  # type: ignore[list-item]
    assert_type(client.recv_bytes(), bytes)
    client.recv_bytes(100, timeout=5)
    client.recv_bytes(100, 5)  # type: ignore[call-arg]
    assert_type(client.recv_bytes_into(bytearray(10), 5, timeout=1), int)
    assert_type(client.recv_many(10, timeout=None), list[bytes])
    assert_type(client.call(b"x", timeout=1), bytes)
    assert_type(client.poll(None), bool)
    assert_type(client.fileno(), int)
    assert_type(client.closed or client.readable or client.writable, bool)
    assert_type(client.address, str)
    assert_type(client.max_message_size, int)
    client.address = "x"  # type: ignore[misc]
    client.send([5], timeout=1)
    client.send(5, 1)  # type: ignore[call-arg]
    client.recv(timeout=1).anything()
    client.recv(1)  # type: ignore[call-arg]
    selectors.DefaultSelector().register(client, selectors.EVENT_READ)
npipes.connect(b"demo")  # type: ignore[arg-type]
npipes.connect("demo", 5)  # type: ignore[call-arg]
npipes.connect(Path("/run/demo"), authkey="x")  # type: ignore[arg-type]

with npipes.Listener() as listener:
    assert_type(listener.accept(timeout=5), npipes.Client)
    listener.accept(5)  # type: ignore[call-arg]
    assert_type(listener.address, str)
    assert_type(listener.closed, bool)
    assert_type(listener.fileno(), int)
npipes.Listener("demo", access=0o600, max_message_size=5)
npipes.Listener("demo", "AF_UNIX", 5)
npipes.Listener("demo", "AF_INET")  # type: ignore[arg-type]
npipes.connect("demo", server_owner="user")
npipes.connect("demo", trusted=True, allow=[Path, "decimal.Context"])
npipes.connect("demo", allow=[5])  # type: ignore[list-item]
npipes.Listener("demo", trusted=False, allow=(Path,))
npipes.Pipe(trusted=True, allow=())

assert_type(npipes.Pipe(), tuple[npipes.Client, npipes.Client])
npipes.Pipe(False, max_message_size=5)
assert_type(npipes.call("demo", b"x", timeout=None), bytes)
npipes.wait([client, 5], 0.5)
assert_type(npipes.find("a*"), list[str])


class MyClient(npipes.Client): ...  # type: ignore[misc]


# ---- payloads -------------------------------------------------------------

assert_type(npipes.dumps([1]), bytes)
buffers: list[PickleBuffer] = []
npipes.dumps([1], buffers.append)
npipes.dumps([1], buffer_callback=len)  # type: ignore[arg-type]
npipes.loads(bytearray(5), buffers, trusted=False, allow=[Path]).anything()
npipes.loads(memoryview(b""), allow=["collections.deque"])
npipes.loads("text")  # type: ignore[arg-type]
npipes.loads(b"", None, True)  # type: ignore[call-arg]
npipes.loads(b"", allow=Path)  # type: ignore[arg-type]

bag = npipes.PropertyBag(b"", trusted=True, allow={Path})
bag.write_property("Name", 5, default=0)
bag.write_property(5, 5)  # type: ignore[arg-type]
bag.read_property("Name", 0).anything()
bag["x"] = object()
bag[5] = 1  # type: ignore[index]
assert_type(bag.contents, bytes)
bag.contents = memoryview(b"")
bag.contents = "text"  # type: ignore[assignment]
assert_type(bag.copy(), npipes.PropertyBag)
assert_type(list(bag), list[str])
assert_type(len(bag), int)
assert_type("x" in bag, bool)
npipes.PropertyBag({"x": 1})  # type: ignore[arg-type]


class MyBag(npipes.PropertyBag): ...


assert_type(MyBag().copy(), MyBag)

# ---- what is left --------------------------------------------------------

assert_type(server.stats.messages_in, int)
assert_type(server.stats[0], int)
assert_type(npipes.address("demo"), str)
npipes.address(Path("/run/demo"))
npipes.address(os.environ)  # type: ignore[arg-type]


def catch() -> None:
    try:
        server.connections[0].write(b"x")
    except npipes.QueueFullError as error:
        assert_type(error.operation, str)
        assert_type(error.cookie, Any)
    except npipes.PipeClosedError as error:
        a: BrokenPipeError = error
        b: npipes.PipeError = error
    except npipes.AccessDeniedError as error:
        c: PermissionError = error
    except npipes.PipeResetError as error:
        d: ConnectionResetError = error
    except npipes.PipeTimeoutError as error:
        e: TimeoutError = error
    except npipes.ConnectionClosed as error:
        g: EOFError = error
    except npipes.PipeNotFoundError as error:
        h: FileNotFoundError = error
    except npipes.PipeBusyError as error:
        i: npipes.PipeError = error
    except (npipes.MessageTooLargeError, npipes.ProtocolError) as error:
        f: OSError = error
    except npipes.UnsafePayloadError as error:
        j: ValueError = error
        k: UnpicklingError = error


# ---- Windows' constants and functions ------------------------------------

assert_type(constants.PIPE_TYPE_MESSAGE | constants.PIPE_WAIT, constants.PipeMode)
number: int = constants.FILE_FLAG_OVERLAPPED | constants.SECURITY_SQOS_PRESENT
constants.PIPE_WAIT = constants.PIPE_NOWAIT  # type: ignore[misc]

if sys.platform == "win32":
    from npipes import native

    who = native.SecurityAttributes(None, bInheritHandle=True)
    assert_type(who.sddl, str | None)
    native.SecurityAttributes()  # type: ignore[call-arg]
    mode = native.PIPE_TYPE_MESSAGE | native.PIPE_READMODE_MESSAGE
    pipe = native.CreateNamedPipe("x", native.PIPE_ACCESS_DUPLEX, mode, lpSecurityAttributes=who)
    assert_type(pipe, int)
    native.CreateNamedPipe(b"x", 3, mode)  # type: ignore[arg-type]
    assert_type(native.ReadFile(pipe, 4096), tuple[bytes, bool])
    assert_type(native.WriteFile(pipe, memoryview(b"x")), int)
    native.WriteFile(pipe, "x")  # type: ignore[arg-type]
    assert_type(native.PeekNamedPipe(pipe).data, bytes)
    assert_type(native.GetNamedPipeInfo(pipe).flags, int)
    assert_type(native.GetNamedPipeHandleState(pipe).state, int)
    native.SetNamedPipeHandleState(pipe, native.PIPE_READMODE_MESSAGE, None)
    assert_type(native.CallNamedPipe("x", b"", 1, native.NMPWAIT_WAIT_FOREVER), tuple[bytes, bool])
