import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeVar, final

from _typeshed import ReadableBuffer, WriteableBuffer, structseq
from typing_extensions import Self, disjoint_base

from npipes.payload import Reading

_Handler = TypeVar("_Handler", bound=Callable[..., object])
_C = TypeVar("_C", bound=_Connection)

def address(name: str | os.PathLike[str], /) -> str: ...

class PipeError(OSError):
    operation: str
    cookie: Any

class PipeClosedError(PipeError, BrokenPipeError): ...
class PipeResetError(PipeError, ConnectionResetError): ...
class MessageTooLargeError(PipeError): ...
class ProtocolError(PipeError): ...
class QueueFullError(PipeError): ...
class AccessDeniedError(PipeError, PermissionError): ...
class PipeTimeoutError(PipeError, TimeoutError): ...
class ConnectionClosed(PipeError, EOFError): ...
class PipeNotFoundError(PipeError, FileNotFoundError): ...
class PipeBusyError(PipeError): ...

def connect(
    name: str | os.PathLike[str],
    *,
    timeout: float | None = 5.0,
    authkey: ReadableBuffer | None = None,
    max_message_size: int = 67108864,
    server_owner: Literal["user"] | None = None,
    trusted: bool = False,
    allow: Iterable[type | str] = (),
) -> Client: ...
def Pipe(
    duplex: bool = True,
    *,
    max_message_size: int = 67108864,
    trusted: bool = False,
    allow: Iterable[type | str] = (),
) -> tuple[Client, Client]: ...

@final
class Client:
    _got_empty_message: bool
    @property
    def _holds(self) -> bool: ...
    @property
    def _reading(self) -> Reading | None: ...
    @property
    def address(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def max_message_size(self) -> int: ...
    @property
    def readable(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def send_bytes(
        self,
        buf: ReadableBuffer,
        offset: int = 0,
        size: int | None = None,
        *,
        timeout: float | None = None,
    ) -> None: ...
    def send_many(
        self, messages: Iterable[ReadableBuffer], *, timeout: float | None = None
    ) -> None: ...
    def recv_bytes(
        self, maxlength: int | None = None, *, timeout: float | None = None
    ) -> bytes: ...
    def recv_bytes_into(
        self, buf: WriteableBuffer, offset: int = 0, *, timeout: float | None = None
    ) -> int: ...
    def recv_many(self, max: int | None = None, *, timeout: float | None = None) -> list[bytes]: ...
    def send(self, obj: object, *, timeout: float | None = None) -> None: ...
    def recv(self, *, timeout: float | None = None) -> Any: ...
    def call(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes: ...
    def poll(self, timeout: float | None = 0.0) -> bool: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]: ...
    def __reduce__(self) -> tuple[Callable[..., Client], tuple[Any, ...]]: ...

@final
class Listener:
    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        family: Literal["AF_UNIX", "AF_PIPE"] | None = None,
        backlog: int = 1,
        authkey: ReadableBuffer | None = None,
        *,
        access: str | int = "user",
        max_message_size: int = 67108864,
        trusted: bool = False,
        allow: Iterable[type | str] = (),
    ) -> None: ...
    @property
    def address(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def last_accepted(self) -> None: ...
    def accept(self, *, timeout: float | None = None) -> Client: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]: ...

@final
class Peer(
    structseq[int | str | None],
    tuple[int | None, int | None, int | None, str | None, str | None],
):
    __match_args__: Final = ("pid", "uid", "gid", "sid", "user")
    @property
    def pid(self) -> int | None: ...
    @property
    def uid(self) -> int | None: ...
    @property
    def gid(self) -> int | None: ...
    @property
    def sid(self) -> str | None: ...
    @property
    def user(self) -> str | None: ...

@final
class Stats(structseq[int], tuple[int, int, int, int, int, int, int, int, int]):
    __match_args__: Final = (
        "connections",
        "connections_total",
        "messages_in",
        "messages_out",
        "bytes_in",
        "bytes_out",
        "queued_bytes",
        "queued_events",
        "errors",
    )
    @property
    def connections(self) -> int: ...
    @property
    def connections_total(self) -> int: ...
    @property
    def messages_in(self) -> int: ...
    @property
    def messages_out(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def queued_bytes(self) -> int: ...
    @property
    def queued_events(self) -> int: ...
    @property
    def errors(self) -> int: ...

@disjoint_base
class _Connection:
    custom_data: Any
    @property
    def handle(self) -> int: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def is_opening(self) -> bool: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def error(self) -> PipeError | None: ...
    @property
    def peer(self) -> Peer: ...
    def write(self, data: ReadableBuffer, cookie: object = None) -> None: ...
    def write_many(self, messages: Iterable[ReadableBuffer], cookie: object = None) -> None: ...
    def read(self, cookie: object = None) -> None: ...
    def close(self) -> None: ...

@final
class ServerConnection(_Connection):
    @property
    def server(self) -> Server | None: ...

@final
class ClientConnection(_Connection):
    @property
    def manager(self) -> ClientManager | None: ...
    @property
    def address(self) -> str: ...

@disjoint_base
class _Endpoint(Generic[_C]):
    threads: int
    free_threading_events: bool
    message_buffer_size: int
    continuous_read: bool
    max_message_size: int
    message_timeout: float | None
    write_high_water: int | None
    max_pending_bytes: int
    mode: Literal["message", "byte"]
    kernel_buffer_size: int | None
    spin_us: int

    on_ready: Callable[[], object] | None
    on_connected: Callable[[_C], object] | None
    on_message: Callable[[_C, bytes, Any], object] | None
    on_messages: Callable[[_C, list[bytes]], object] | None
    on_sent: Callable[[_C, Any], object] | None
    on_disconnected: Callable[[_C], object] | None
    on_drained: Callable[[_C], object] | None
    on_error: Callable[[_C | None, PipeError], object] | None

    @property
    def authkey(self) -> bool: ...
    @authkey.setter
    def authkey(self, value: ReadableBuffer | None, /) -> None: ...
    @property
    def connections(self) -> list[_C]: ...
    @property
    def is_running(self) -> bool: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def wait_handle(self) -> int | None: ...
    def stop(self) -> None: ...
    def run(self, timeout: float | None = None) -> None: ...
    def dispatch(self, timeout: float | None = 0) -> int: ...
    def quit(self) -> None: ...
    def fileno(self) -> int: ...
    def broadcast(self, data: ReadableBuffer, cookie: object = None) -> int: ...
    def event(self, function: _Handler, /) -> _Handler: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]: ...

class Server(_Endpoint[ServerConnection]):
    name: str
    max_instances: int | None
    listeners: int
    max_handshakes: int
    access: str | int

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        threads: int = 1,
        free_threading_events: bool = False,
        message_buffer_size: int = 131072,
        continuous_read: bool = True,
        max_instances: int | None = None,
        listeners: int = 8,
        max_message_size: int = 67108864,
        message_timeout: float | None = 60.0,
        write_high_water: int | None = 1048576,
        max_pending_bytes: int = 67108864,
        access: str | int = "user",
        authkey: ReadableBuffer | None = None,
        max_handshakes: int = 128,
        mode: Literal["message", "byte"] = "message",
        kernel_buffer_size: int | None = None,
        spin_us: int = 0,
        on_ready: Callable[[], object] | None = None,
        on_connected: Callable[[ServerConnection], object] | None = None,
        on_message: Callable[[ServerConnection, bytes, Any], object] | None = None,
        on_messages: Callable[[ServerConnection, list[bytes]], object] | None = None,
        on_sent: Callable[[ServerConnection, Any], object] | None = None,
        on_disconnected: Callable[[ServerConnection], object] | None = None,
        on_drained: Callable[[ServerConnection], object] | None = None,
        on_error: Callable[[ServerConnection | None, PipeError], object] | None = None,
    ) -> None: ...
    @property
    def address(self) -> str: ...
    def start(self) -> None: ...

class ClientManager(_Endpoint[ClientConnection]):
    server_owner: Literal["user"] | None
    reconnect: bool
    reconnect_delay: tuple[float, float]

    def __init__(
        self,
        *,
        threads: int = 1,
        free_threading_events: bool = False,
        message_buffer_size: int = 131072,
        continuous_read: bool = True,
        max_message_size: int = 67108864,
        message_timeout: float | None = 60.0,
        write_high_water: int | None = 1048576,
        max_pending_bytes: int = 67108864,
        authkey: ReadableBuffer | None = None,
        mode: Literal["message", "byte"] = "message",
        kernel_buffer_size: int | None = None,
        spin_us: int = 0,
        server_owner: Literal["user"] | None = None,
        reconnect: bool = False,
        reconnect_delay: tuple[float, float] = (0.05, 5.0),
        on_ready: Callable[[], object] | None = None,
        on_connected: Callable[[ClientConnection], object] | None = None,
        on_message: Callable[[ClientConnection, bytes, Any], object] | None = None,
        on_messages: Callable[[ClientConnection, list[bytes]], object] | None = None,
        on_sent: Callable[[ClientConnection, Any], object] | None = None,
        on_disconnected: Callable[[ClientConnection], object] | None = None,
        on_drained: Callable[[ClientConnection], object] | None = None,
        on_error: Callable[[ClientConnection | None, PipeError], object] | None = None,
    ) -> None: ...
    def start(self) -> None: ...
    def connect(
        self, name: str | os.PathLike[str], *, timeout: float | None = 5.0
    ) -> ClientConnection: ...

def _adopt(
    handle: int,
    address: str,
    readable: bool,
    writable: bool,
    max_message_size: int,
    reading: Reading | None,
    /,
) -> Client: ...
def _read(
    data: ReadableBuffer, reading: Reading, buffers: Iterable[ReadableBuffer] | None, /
) -> Any: ...
def _stop_all() -> None: ...
def _before_fork() -> None: ...
def _after_fork_in_parent() -> None: ...
def _after_fork_in_child() -> None: ...
