"""Windows' own functions: conversations through them alone, and with the other kinds of ends."""

import ast
import contextlib
import functools
import importlib
import inspect
import os
import threading
import time
from pathlib import Path

import pytest
from support import TIMEOUT, WINDOWS, Client, echo, eventually, is_wine, linux_only

import npipes
from npipes.constants import *

if WINDOWS:
    from npipes.native import *

windows = pytest.mark.skipif(not WINDOWS, reason="the functions are Windows's")
MESSAGES = PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
SAFE = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION


@linux_only
def test_the_functions_are_refused_where_there_is_no_windows():
    with pytest.raises(ImportError, match=r"npipes\.constants") as caught:
        importlib.import_module("npipes.native")
    assert caught.value.name == "npipes.native"


# ---- ends and threads ----------------------------------------------------


@pytest.fixture(params=[FILE_FLAG_OVERLAPPED, 0], ids=["overlapped", "synchronous"])
def flags(request):
    """How handles are opened."""
    return request.param


@pytest.fixture
def address(pipe_name):
    return npipes.address(pipe_name)


@pytest.fixture
def own():
    """Has a handle closed when the test ends, unless the test did it."""
    handles = []

    def keep(handle):
        handles.append(handle)
        return handle

    yield keep
    for handle in handles:
        with contextlib.suppress(OSError):
            CloseHandle(handle)


@pytest.fixture
def listen(address, own, flags):
    def listen(mode=MESSAGES, access=PIPE_ACCESS_DUPLEX, **options):
        open_mode = access | flags | FILE_FLAG_FIRST_PIPE_INSTANCE
        handle = CreateNamedPipe(address, open_mode, mode | PIPE_REJECT_REMOTE_CLIENTS, **options)
        return own(handle)

    return listen


@pytest.fixture
def dial(address, own, flags):
    def dial(mode=PIPE_READMODE_MESSAGE):
        access = GENERIC_READ | GENERIC_WRITE
        handle = own(CreateFile(address, access, dwFlagsAndAttributes=SAFE | flags))
        SetNamedPipeHandleState(handle, mode)
        return handle

    return dial


@pytest.fixture
def pair(listen, dial):
    """Both ends of a connection: server, client."""
    server = listen()
    client = dial()
    assert ConnectNamedPipe(server) == ERROR_PIPE_CONNECTED
    return server, client


class Call(threading.Thread):
    """A call in a thread of its own, whose end is its result or its exception."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.call = functools.partial(function, *args)
        self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except OSError as error:
            self.error = error

    def result(self):
        self.join(TIMEOUT)
        assert not self.is_alive(), f"{self.call} has not returned"
        if self.error:
            raise self.error
        return self.value

    def waits(self):
        self.join(0.1)
        return self.is_alive()

    def canceled(self, handle):
        """Cancels until the call has ended: it may not have begun before."""

        def ended():
            CancelIo(handle)
            return not self.is_alive()

        return self.waits() and eventually(ended)


@contextlib.contextmanager
def failing(*errors):
    with pytest.raises(OSError) as caught:
        yield caught
    assert caught.value.winerror in errors, caught.value


# ---- conversations -------------------------------------------------------


@windows
def test_a_conversation_from_creation_to_the_end(address, own, listen, dial):
    server = listen()
    connecting = Call(ConnectNamedPipe, server)
    assert connecting.waits()
    client = dial()
    assert connecting.result() == ERROR_SUCCESS

    assert WriteFile(client, b"question") == 8
    assert ReadFile(server, 100) == (b"question", False)
    assert WriteFile(server, memoryview(b"answer")) == 6
    flushing = Call(FlushFileBuffers, server)
    assert flushing.waits()
    assert ReadFile(client, 100) == (b"answer", False)
    assert flushing.result() is None

    assert DisconnectNamedPipe(server) is None
    with failing(ERROR_PIPE_NOT_CONNECTED):
        ReadFile(client, 1)
    with failing(ERROR_PIPE_NOT_CONNECTED):
        WriteFile(server, b"too late")
    assert CloseHandle(client) is None

    connecting = Call(ConnectNamedPipe, server)  # the instance serves the next one
    WaitNamedPipe(address, 5000)
    client = dial()
    connecting.result()
    WriteFile(client, b"again")
    assert ReadFile(server, 100) == (b"again", False)


@windows
def test_two_threads_read_and_write_one_overlapped_handle(address, own):
    open_mode = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED
    server = own(CreateNamedPipe(address, open_mode, MESSAGES))
    client = own(CreateFile(address, GENERIC_READ | GENERIC_WRITE, 0, None, OPEN_EXISTING, SAFE))
    reading = Call(ReadFile, server, 100)
    assert reading.waits()
    WriteFile(server, b"meanwhile")
    assert ReadFile(client, 100) == (b"meanwhile", False)
    WriteFile(client, b"at last")
    assert reading.result() == (b"at last", False)


@windows
def test_a_client_that_came_and_left_is_told(address, listen, dial):
    server = listen()
    CloseHandle(dial())
    with failing(ERROR_NO_DATA):
        ConnectNamedPipe(server)
    DisconnectNamedPipe(server)
    connecting = Call(ConnectNamedPipe, server)
    WaitNamedPipe(address, 5000)
    dial()
    connecting.result()


@windows
def test_the_end_of_a_peer_comes_after_what_it_has_written(pair):
    server, client = pair
    WriteFile(client, b"last words")
    CloseHandle(client)
    assert ReadFile(server, 100) == (b"last words", False)
    with failing(ERROR_BROKEN_PIPE):
        ReadFile(server, 100)
    with failing(ERROR_BROKEN_PIPE):
        PeekNamedPipe(server)
    with failing(ERROR_NO_DATA):
        WriteFile(server, b"anybody?")


@windows
def test_a_pipe_in_one_direction(listen, address, own):
    server = listen(access=PIPE_ACCESS_OUTBOUND)
    client = own(CreateFile(address, GENERIC_READ | FILE_WRITE_ATTRIBUTES))
    SetNamedPipeHandleState(client, PIPE_READMODE_MESSAGE)
    WriteFile(server, b"to whom it may concern")
    assert ReadFile(client, 100) == (b"to whom it may concern", False)
    with failing(ERROR_ACCESS_DENIED):
        ReadFile(server, 1)


# ---- messages ------------------------------------------------------------


@windows
@pytest.mark.parametrize("first", ["the read", "the write"])
def test_a_message_longer_than_the_buffer_comes_in_parts(pair, first):
    server, client = pair
    if first == "the write":
        WriteFile(client, b"0123456789")
        assert ReadFile(server, 4) == (b"0123", True)
    else:
        reading = Call(ReadFile, server, 4)
        assert reading.waits()
        WriteFile(client, b"0123456789")
        assert reading.result() == (b"0123", True)
    assert ReadFile(server, 0) == (b"", True)
    assert ReadFile(server, 6) == (b"456789", False)


@windows
def test_messages_keep_their_boundaries(pair):
    server, client = pair
    for message in (b"one", b"", b"three"):
        assert WriteFile(client, message) == len(message)
    assert [ReadFile(server, 100) for _ in range(3)] == [
        (b"one", False),
        (b"", False),
        (b"three", False),
    ]


@windows
def test_a_long_message_arrives_whole(pair):
    server, client = pair
    message = bytes(range(256)) * 8192
    writing = Call(WriteFile, client, bytearray(message))
    assert ReadFile(server, 3 << 20) == (message, False)
    assert writing.result() == len(message)


@windows
def test_bytes_have_no_boundaries(listen, dial):
    server = listen(PIPE_TYPE_BYTE | PIPE_READMODE_BYTE)
    client = dial(PIPE_READMODE_BYTE)
    WriteFile(client, b"one")
    WriteFile(client, b"two")
    seen = PeekNamedPipe(server, 100)
    assert (seen.data, seen.total_available) == (b"onetwo", 6)
    assert ReadFile(server, 100) == (b"onetwo", False)
    with failing(ERROR_INVALID_PARAMETER):
        SetNamedPipeHandleState(client, PIPE_READMODE_MESSAGE)
    if is_wine():
        pytest.skip("Wine counts the rest of a message where there are none")
    assert seen.left_this_message == 0


@windows
def test_peeking_takes_nothing(pair):
    server, client = pair
    assert PeekNamedPipe(server) == (b"", 0, 0)
    WriteFile(client, b"0123456789")
    WriteFile(client, b"next")
    seen = PeekNamedPipe(server, 4)
    assert (seen.data, seen.total_available, seen.left_this_message) == (b"0123", 14, 6)
    assert PeekNamedPipe(server, 100).data == b"0123456789"
    assert ReadFile(server, 100) == (b"0123456789", False)


@windows
@pytest.mark.parametrize("size", [6, 4])
def test_a_transaction_is_a_write_and_a_read(pair, size):
    server, client = pair
    transaction = Call(TransactNamedPipe, client, b"question", size)
    assert ReadFile(server, 100) == (b"question", False)
    WriteFile(server, b"answer")
    assert transaction.result() == (b"answer"[:size], size < 6)
    if size < 6:
        assert ReadFile(client, 100) == (b"answer"[size:], False)


@windows
def test_a_transaction_takes_a_handle_that_reads_messages(listen, dial):
    listen()
    client = dial(PIPE_READMODE_BYTE)
    with failing(ERROR_BAD_PIPE):
        TransactNamedPipe(client, b"question", 100)


def answer_one(server, answer):
    ConnectNamedPipe(server)
    question = ReadFile(server, 100)
    WriteFile(server, answer)
    with contextlib.suppress(BrokenPipeError):  # the client has it and is gone
        FlushFileBuffers(server)
    DisconnectNamedPipe(server)
    return question


@windows
def test_a_call_is_a_whole_conversation(address, listen):
    server = listen()
    serving = Call(answer_one, server, b"answer")
    assert CallNamedPipe(address, b"question", 100, 5000) == (b"answer", False)
    assert serving.result() == (b"question", False)
    serving = Call(answer_one, server, b"answer")
    assert CallNamedPipe(address, b"question", 3, NMPWAIT_WAIT_FOREVER) == (b"ans", True)
    assert serving.result() == (b"question", False)


# ---- waiting for an instance ---------------------------------------------


@windows
def test_waiting_ends_when_an_instance_is_free(address, listen, dial):
    server = listen()
    WaitNamedPipe(address, NMPWAIT_WAIT_FOREVER)
    client = dial()
    waiting = Call(WaitNamedPipe, address, NMPWAIT_WAIT_FOREVER)
    assert waiting.waits()
    CloseHandle(client)
    DisconnectNamedPipe(server)
    connecting = Call(ConnectNamedPipe, server)
    assert waiting.result() is None
    dial()
    connecting.result()


@windows
@pytest.mark.parametrize("timeout", [150, NMPWAIT_USE_DEFAULT_WAIT], ids=["given", "default"])
def test_waiting_has_a_timeout(address, listen, dial, timeout):
    listen(nMaxInstances=1, nDefaultTimeOut=150)
    dial()
    began = time.monotonic()
    with failing(ERROR_SEM_TIMEOUT) as caught:
        WaitNamedPipe(address, timeout)
    assert 0.1 < time.monotonic() - began < TIMEOUT
    assert caught.value.filename == address
    with failing(ERROR_SEM_TIMEOUT, ERROR_PIPE_BUSY) as caught:
        CallNamedPipe(address, b"question", 100, timeout)
    assert caught.value.filename == address
    with failing(ERROR_PIPE_BUSY) as caught:
        CreateFile(address, GENERIC_READ)
    assert caught.value.filename == address


@windows
def test_nobody_waits_for_a_pipe_that_is_not_there(address):
    for call in (
        lambda: WaitNamedPipe(address, NMPWAIT_WAIT_FOREVER),
        lambda: CallNamedPipe(address, b"", 1, NMPWAIT_WAIT_FOREVER),
        lambda: CreateFile(address, GENERIC_READ),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert caught.value.winerror == ERROR_CANNOT_CONNECT_TO_PIPE
        assert caught.value.filename == address


@windows
def test_other_threads_run_while_a_call_waits(pair):
    server, _client = pair
    reading = Call(ReadFile, server, 1)
    began, ticks = time.monotonic(), 0
    while time.monotonic() < began + 0.1:
        ticks += 1
    assert ticks > 10 and reading.canceled(server)


# ---- states and properties -----------------------------------------------


@windows
def test_the_state_of_a_handle_is_read_and_set(pair):
    server, client = pair
    state = GetNamedPipeHandleState(client)
    assert (state.state, state.instances) == (PIPE_READMODE_MESSAGE | PIPE_WAIT, 1)
    SetNamedPipeHandleState(client, PIPE_READMODE_BYTE | PIPE_NOWAIT)
    assert GetNamedPipeHandleState(client).state == PIPE_READMODE_BYTE | PIPE_NOWAIT
    SetNamedPipeHandleState(client)
    assert GetNamedPipeHandleState(client).state == PIPE_READMODE_BYTE | PIPE_NOWAIT
    assert GetNamedPipeHandleState(server).state == PIPE_READMODE_MESSAGE


@windows
def test_a_handle_in_nowait_mode_does_not_wait(listen, dial):
    server = listen(MESSAGES | PIPE_NOWAIT)
    with failing(ERROR_PIPE_LISTENING):
        ConnectNamedPipe(server)
    client = dial()
    assert ConnectNamedPipe(server) == ERROR_PIPE_CONNECTED
    with failing(ERROR_NO_DATA):
        ReadFile(server, 1)
    WriteFile(client, b"here")
    assert ReadFile(server, 100) == (b"here", False)


@windows
def test_what_a_pipe_was_made_with(listen, dial):
    server = listen(nMaxInstances=7, nOutBufferSize=8192, nInBufferSize=4096)
    client = dial()
    for handle, end in ((server, PIPE_SERVER_END), (client, PIPE_CLIENT_END)):
        info = GetNamedPipeInfo(handle)
        assert (info.flags, info.max_instances) == (end | PIPE_TYPE_MESSAGE, 7)
        assert info.out_buffer_size >= 8192 and info.in_buffer_size >= 4096


@windows
def test_the_process_of_a_server_is_told(listen, dial):
    listen()
    assert GetNamedPipeServerProcessId(dial()) == os.getpid()
    with pytest.raises(OSError):
        GetNamedPipeServerProcessId(0)


@windows
def test_instances_are_counted(address, listen, own):
    first = listen()
    own(CreateNamedPipe(address, PIPE_ACCESS_DUPLEX, MESSAGES))
    assert GetNamedPipeHandleState(first).instances == 2
    if is_wine():
        pytest.skip("Wine does not tell how many instances there may be")
    assert GetNamedPipeInfo(first).max_instances == PIPE_UNLIMITED_INSTANCES


@windows
def test_the_first_instance_has_its_name_alone(address, listen):
    listen()
    if is_wine():
        pytest.skip("Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE")
    with failing(ERROR_ACCESS_DENIED) as caught:
        listen()
    assert caught.value.filename == address


# ---- canceling -----------------------------------------------------------


@windows
def test_a_connect_that_waits_is_canceled_from_another_thread(listen, dial):
    server = listen()
    connecting = Call(ConnectNamedPipe, server)
    assert connecting.canceled(server)
    with failing(ERROR_OPERATION_ABORTED):
        connecting.result()
    dial()
    assert ConnectNamedPipe(server) == ERROR_PIPE_CONNECTED


@windows
def test_a_read_that_waits_is_canceled_from_another_thread(pair):
    server, client = pair
    reading = Call(ReadFile, server, 100)
    assert reading.canceled(server)
    with failing(ERROR_OPERATION_ABORTED):
        reading.result()
    WriteFile(client, b"not lost")
    assert ReadFile(server, 100) == (b"not lost", False)


@windows
def test_a_write_that_waits_is_canceled_from_another_thread(pair):
    _server, client = pair
    writing = Call(WriteFile, client, bytes(1 << 20))
    assert writing.canceled(client)
    with failing(ERROR_OPERATION_ABORTED):
        writing.result()


@windows
def test_canceling_ends_the_calls_of_that_handle_only(pair):
    server, client = pair
    first, other = Call(ReadFile, server, 100), Call(ReadFile, client, 100)
    assert other.waits() and first.canceled(server)
    assert other.waits()
    WriteFile(server, b"here")
    assert other.result() == (b"here", False)
    with failing(ERROR_OPERATION_ABORTED):
        first.result()


@windows
def test_canceling_nothing_does_nothing(pair):
    server, client = pair
    assert CancelIo(server) is None
    WriteFile(client, b"here")
    assert ReadFile(server, 100) == (b"here", False)


# ---- mixed ends ----------------------------------------------------------


@windows
def test_a_native_client_of_a_server(serve, dial):
    serve(on_message=echo)
    client = dial()
    for message in (b"hello", bytes(300_000)):
        WriteFile(client, message)
        data, more = ReadFile(client, 200_000)
        assert more == (len(message) > 200_000)
        assert data + (ReadFile(client, 200_000)[0] if more else b"") == message
    assert TransactNamedPipe(client, b"question", 100) == (b"question", False)


@windows
def test_a_native_call_to_a_server(serve):
    server = serve(on_message=echo)
    assert CallNamedPipe(server.address, b"question", 100, 5000) == (b"question", False)


@windows
def test_the_end_of_a_server_is_seen_by_a_native_client(serve, dial):
    server = serve(on_connected=lambda conn: conn.write(b"welcome"))
    client = dial()
    assert ReadFile(client, 100) == (b"welcome", False)
    reading = Call(ReadFile, client, 100)
    assert reading.waits()
    server.stop()
    with failing(ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED):
        reading.result()


@windows
def test_a_native_write_on_the_handle_of_a_server_connection(serve, dial):
    """Its completion must not come to the server's port, which did not start it."""
    server = serve(on_message=echo)
    client = dial()
    assert eventually(lambda: server.connections)
    (conn,) = server.connections
    assert WriteFile(conn.handle, b"past the server") == 15
    assert ReadFile(client, 100) == (b"past the server", False)
    assert TransactNamedPipe(client, b"as ever", 100) == (b"as ever", False)
    assert server.stats.errors == 0


@windows
def test_a_client_of_the_standard_library_of_a_native_server(address, listen):
    server = listen()
    with Client(address) as client:
        ConnectNamedPipe(server)
        client.send(b"hello")
        assert ReadFile(server, 100) == (b"hello", False)
        WriteFile(server, b"welcome")
        assert client.receive() == b"welcome"


@windows
def test_a_client_of_pywin32_of_a_native_server(address, listen):
    win32file = pytest.importorskip("win32file")
    win32pipe = pytest.importorskip("win32pipe")
    server = listen()
    access = GENERIC_READ | GENERIC_WRITE
    client = win32file.CreateFile(address, int(access), 0, None, int(OPEN_EXISTING), int(SAFE), None)
    try:
        ConnectNamedPipe(server)
        win32pipe.SetNamedPipeHandleState(client, int(PIPE_READMODE_MESSAGE), None, None)
        win32file.WriteFile(client, b"hello")
        assert ReadFile(server, 100) == (b"hello", False)
        WriteFile(server, b"welcome")
        assert win32file.ReadFile(client, 4) == (ERROR_MORE_DATA, b"welc")
        assert ReadFile(int(client), 100) == (b"ome", False)
    finally:
        client.Close()


@windows
def test_a_native_client_of_a_server_of_pywin32(address, dial, flags):
    win32file = pytest.importorskip("win32file")
    win32pipe = pytest.importorskip("win32pipe")
    access, mode = int(PIPE_ACCESS_DUPLEX), int(MESSAGES)
    server = win32pipe.CreateNamedPipe(address, access, mode, 1, 4096, 4096, 0, None)
    try:
        client = dial()
        win32pipe.ConnectNamedPipe(server, None)
        WriteFile(client, b"hello")
        assert win32file.ReadFile(server, 100) == (0, b"hello")
        win32file.WriteFile(server, b"welcome")
        assert ReadFile(client, 4) == (b"welc", True)
        assert ReadFile(client, 4) == (b"ome", False)
    finally:
        server.Close()


# ---- access --------------------------------------------------------------


@windows
@pytest.mark.parametrize("sddl", ["D:P(A;;FA;;;SY)(A;;FA;;;BA)", None])
def test_a_pipe_with_security_attributes(listen, dial, sddl):
    security = SecurityAttributes(sddl)
    assert security.sddl == sddl
    assert security.bInheritHandle is False
    server = listen(lpSecurityAttributes=security)
    if sddl is None:
        dial()
        return
    if is_wine():
        pytest.skip("Wine drops security descriptors: the pipe has none to look at")
    win32security = pytest.importorskip("win32security")
    kind, part = win32security.SE_KERNEL_OBJECT, win32security.DACL_SECURITY_INFORMATION
    found = win32security.GetSecurityInfo(server, kind, part)
    text = win32security.ConvertSecurityDescriptorToStringSecurityDescriptor(found, 1, part)
    assert text == sddl


@windows
def test_a_handle_that_child_processes_inherit(address, own):
    for inherit in (False, True):
        security = SecurityAttributes(None, bInheritHandle=inherit)
        assert security.bInheritHandle is inherit
        handle = CreateNamedPipe(address, PIPE_ACCESS_DUPLEX, MESSAGES, lpSecurityAttributes=security)
        assert os.get_handle_inheritable(own(handle)) is inherit


@windows
def test_security_attributes_must_be_understood():
    with pytest.raises(OSError) as caught:
        SecurityAttributes("everyone, please")
    assert caught.value.winerror
    with pytest.raises(TypeError):
        SecurityAttributes()
    with pytest.raises(TypeError):
        SecurityAttributes(b"D:")
    with pytest.raises(ValueError):
        SecurityAttributes("D:\0")


# ---- arguments -----------------------------------------------------------


@windows
@pytest.mark.parametrize(
    "error, function, args",
    [
        (ValueError, "ReadFile", (4, -1)),
        (ValueError, "ReadFile", (4, 1 << 32)),
        (ValueError, "ReadFile", (1 << 64, 1)),
        (ValueError, "ReadFile", (-(1 << 63) - 1, 1)),
        (ValueError, "PeekNamedPipe", (4, -1)),
        (ValueError, "CallNamedPipe", ("x", b"", -1, 0)),
        (ValueError, "CallNamedPipe", ("x", b"", 1, -1)),
        (ValueError, "WaitNamedPipe", ("x\0", 1)),
        (ValueError, "CreateNamedPipe", ("x", 3, 0, 1, 1 << 32)),
        (TypeError, "ReadFile", (4.0, 1)),
        (TypeError, "ReadFile", ("4", 1)),
        (TypeError, "WriteFile", (4, "text")),
        (TypeError, "WaitNamedPipe", (b"x", 1)),
        (TypeError, "CreateNamedPipe", ("x", 3, 0, 1, 1, 1, 0, "D:")),
        (OSError, "ReadFile", (INVALID_HANDLE_VALUE, 1)),
        (OSError, "CloseHandle", (0x12345670,)),
        (OSError, "CancelIo", (0x12345670,)),
        (OSError, "CreateNamedPipe", ("no pipe", PIPE_ACCESS_DUPLEX, PIPE_TYPE_MESSAGE)),
    ],
)
def test_an_argument_that_can_not_be(error, function, args):
    with pytest.raises(error):
        globals()[function](*args)


@windows
def test_the_constants_are_names_of_the_module_too():
    native = importlib.import_module("npipes.native")
    constants = importlib.import_module("npipes.constants")
    assert set(constants.__all__) < set(native.__all__)
    for name in constants.__all__:
        assert getattr(native, name) is getattr(constants, name)


@windows
def test_signatures_are_those_of_the_stub():
    module = importlib.import_module("npipes._native")
    stub = ast.parse(Path(npipes.__file__).with_name("_native.pyi").read_text(encoding="utf-8"))
    functions = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert {name for name in vars(module) if inspect.isbuiltin(getattr(module, name))} == set(functions)
    for name, node in functions.items():
        arguments = node.args.args
        defaults = [inspect.Parameter.empty] * (len(arguments) - len(node.args.defaults))
        defaults += [default.value for default in node.args.defaults]
        expected = list(zip([a.arg for a in arguments], defaults, strict=True))
        found = inspect.signature(getattr(module, name)).parameters.values()
        assert [(p.name, p.default) for p in found] == expected, name
        assert getattr(module, name).__doc__, name
