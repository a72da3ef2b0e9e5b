"""The constants of Windows' named pipes, under their Windows names; readable on every system.

Each is a member of a group, so that it shows its name, and an int, so that Windows takes it.
"""

from enum import IntEnum, IntFlag
from typing import Final


class OpenMode(IntFlag):
    """dwOpenMode of CreateNamedPipe. FILE_FLAG_* are flags of CreateFile too."""

    PIPE_ACCESS_INBOUND = 0x00000001  # the server reads
    PIPE_ACCESS_OUTBOUND = 0x00000002  # the server writes
    PIPE_ACCESS_DUPLEX = 0x00000003  # both
    FILE_FLAG_FIRST_PIPE_INSTANCE = 0x00080000  # fail if the name is taken
    FILE_FLAG_OVERLAPPED = 0x40000000  # several calls may be under way on the handle
    FILE_FLAG_WRITE_THROUGH = 0x80000000  # a write to another machine waits until it is there


class PipeMode(IntFlag):
    """How a pipe and its handles work: dwPipeMode of CreateNamedPipe, lpMode of handle states.

    The names of no bit at all (PIPE_TYPE_BYTE, PIPE_READMODE_BYTE, PIPE_WAIT,
    PIPE_ACCEPT_REMOTE_CLIENTS) are one member.
    """

    PIPE_TYPE_BYTE = 0x00000000  # written as a stream
    PIPE_READMODE_BYTE = 0x00000000  # read as a stream
    PIPE_WAIT = 0x00000000  # calls wait
    PIPE_ACCEPT_REMOTE_CLIENTS = 0x00000000  # clients of other machines may come
    PIPE_NOWAIT = 0x00000001  # calls fail instead of waiting
    PIPE_READMODE_MESSAGE = 0x00000002  # read as messages
    PIPE_TYPE_MESSAGE = 0x00000004  # written as messages
    PIPE_REJECT_REMOTE_CLIENTS = 0x00000008  # clients of other machines are refused


class PipeEnd(IntFlag):
    """Which end a handle is: a bit of PipeInfo.flags, beside PIPE_TYPE_MESSAGE."""

    PIPE_CLIENT_END = 0x00000000
    PIPE_SERVER_END = 0x00000001


class Access(IntFlag):
    """What a handle is for: dwDesiredAccess of CreateFile."""

    FILE_READ_ATTRIBUTES = 0x00000080  # GetNamedPipeInfo and its kind without GENERIC_READ
    FILE_WRITE_ATTRIBUTES = 0x00000100  # SetNamedPipeHandleState without GENERIC_WRITE
    GENERIC_ALL = 0x10000000
    GENERIC_EXECUTE = 0x20000000
    GENERIC_WRITE = 0x40000000
    GENERIC_READ = 0x80000000


class SecurityQos(IntFlag):
    """What a server may do in its client's name: dwFlagsAndAttributes of CreateFile."""

    SECURITY_ANONYMOUS = 0x00000000  # not even know who the client is
    SECURITY_IDENTIFICATION = 0x00010000  # know it
    SECURITY_IMPERSONATION = 0x00020000  # act as the client on this machine
    SECURITY_DELEGATION = 0x00030000  # act as the client everywhere
    SECURITY_CONTEXT_TRACKING = 0x00040000  # later changes of the client's rights count
    SECURITY_EFFECTIVE_ONLY = 0x00080000  # only what the client has enabled
    SECURITY_SQOS_PRESENT = 0x00100000  # these flags count; without it the server may impersonate


class CreationDisposition(IntEnum):
    """What CreateFile does if there is such a file, or none. For pipes: OPEN_EXISTING."""

    CREATE_NEW = 1
    CREATE_ALWAYS = 2
    OPEN_EXISTING = 3
    OPEN_ALWAYS = 4
    TRUNCATE_EXISTING = 5


class NamedPipeWait(IntEnum):
    """Time-outs that are no milliseconds: nTimeOut of CallNamedPipe and WaitNamedPipe."""

    NMPWAIT_USE_DEFAULT_WAIT = 0x00000000  # nDefaultTimeOut of CreateNamedPipe
    NMPWAIT_NOWAIT = 0x00000001  # CallNamedPipe: fail if no instance is free
    NMPWAIT_WAIT_FOREVER = 0xFFFFFFFF


class WinError(IntEnum):
    """What pipes fail with: the winerror of an OSError."""

    ERROR_SUCCESS = 0
    ERROR_FILE_NOT_FOUND = 2  # there is no pipe of that name
    ERROR_CANNOT_CONNECT_TO_PIPE = 2  # the same, as NamedPipeNative calls it
    ERROR_ACCESS_DENIED = 5  # not for this user; or the name is taken
    ERROR_INVALID_HANDLE = 6
    ERROR_INVALID_PARAMETER = 87
    ERROR_BROKEN_PIPE = 109  # the other end is gone: nothing more to read
    ERROR_SEM_TIMEOUT = 121  # the time is over
    ERROR_INVALID_NAME = 123  # no name of a pipe
    ERROR_BAD_PIPE = 230  # not in the state for this call
    ERROR_PIPE_BUSY = 231  # no instance is free
    ERROR_NO_DATA = 232  # the other end is gone: writing ends; PIPE_NOWAIT: nothing to read
    ERROR_PIPE_NOT_CONNECTED = 233  # nobody is, or not any more
    ERROR_MORE_DATA = 234  # the message is longer
    ERROR_PIPE_CONNECTED = 535  # the client came before ConnectNamedPipe
    ERROR_PIPE_LISTENING = 536  # no client yet
    ERROR_OPERATION_ABORTED = 995  # canceled
    ERROR_IO_INCOMPLETE = 996  # still under way
    ERROR_IO_PENDING = 997  # under way
    ERROR_NOT_FOUND = 1168  # nothing to cancel


PIPE_UNLIMITED_INSTANCES: Final = 255  # nMaxInstances of CreateNamedPipe
INVALID_HANDLE_VALUE: Final = -1

PIPE_ACCESS_INBOUND: Final = OpenMode.PIPE_ACCESS_INBOUND
PIPE_ACCESS_OUTBOUND: Final = OpenMode.PIPE_ACCESS_OUTBOUND
PIPE_ACCESS_DUPLEX: Final = OpenMode.PIPE_ACCESS_DUPLEX
FILE_FLAG_FIRST_PIPE_INSTANCE: Final = OpenMode.FILE_FLAG_FIRST_PIPE_INSTANCE
FILE_FLAG_OVERLAPPED: Final = OpenMode.FILE_FLAG_OVERLAPPED
FILE_FLAG_WRITE_THROUGH: Final = OpenMode.FILE_FLAG_WRITE_THROUGH

PIPE_TYPE_BYTE: Final = PipeMode.PIPE_TYPE_BYTE
PIPE_READMODE_BYTE: Final = PipeMode.PIPE_READMODE_BYTE
PIPE_WAIT: Final = PipeMode.PIPE_WAIT
PIPE_ACCEPT_REMOTE_CLIENTS: Final = PipeMode.PIPE_ACCEPT_REMOTE_CLIENTS
PIPE_NOWAIT: Final = PipeMode.PIPE_NOWAIT
PIPE_READMODE_MESSAGE: Final = PipeMode.PIPE_READMODE_MESSAGE
PIPE_TYPE_MESSAGE: Final = PipeMode.PIPE_TYPE_MESSAGE
PIPE_REJECT_REMOTE_CLIENTS: Final = PipeMode.PIPE_REJECT_REMOTE_CLIENTS

PIPE_CLIENT_END: Final = PipeEnd.PIPE_CLIENT_END
PIPE_SERVER_END: Final = PipeEnd.PIPE_SERVER_END

FILE_READ_ATTRIBUTES: Final = Access.FILE_READ_ATTRIBUTES
FILE_WRITE_ATTRIBUTES: Final = Access.FILE_WRITE_ATTRIBUTES
GENERIC_ALL: Final = Access.GENERIC_ALL
GENERIC_EXECUTE: Final = Access.GENERIC_EXECUTE
GENERIC_WRITE: Final = Access.GENERIC_WRITE
GENERIC_READ: Final = Access.GENERIC_READ

SECURITY_ANONYMOUS: Final = SecurityQos.SECURITY_ANONYMOUS
SECURITY_IDENTIFICATION: Final = SecurityQos.SECURITY_IDENTIFICATION
SECURITY_IMPERSONATION: Final = SecurityQos.SECURITY_IMPERSONATION
SECURITY_DELEGATION: Final = SecurityQos.SECURITY_DELEGATION
SECURITY_CONTEXT_TRACKING: Final = SecurityQos.SECURITY_CONTEXT_TRACKING
SECURITY_EFFECTIVE_ONLY: Final = SecurityQos.SECURITY_EFFECTIVE_ONLY
SECURITY_SQOS_PRESENT: Final = SecurityQos.SECURITY_SQOS_PRESENT

CREATE_NEW: Final = CreationDisposition.CREATE_NEW
CREATE_ALWAYS: Final = CreationDisposition.CREATE_ALWAYS
OPEN_EXISTING: Final = CreationDisposition.OPEN_EXISTING
OPEN_ALWAYS: Final = CreationDisposition.OPEN_ALWAYS
TRUNCATE_EXISTING: Final = CreationDisposition.TRUNCATE_EXISTING

NMPWAIT_USE_DEFAULT_WAIT: Final = NamedPipeWait.NMPWAIT_USE_DEFAULT_WAIT
NMPWAIT_NOWAIT: Final = NamedPipeWait.NMPWAIT_NOWAIT
NMPWAIT_WAIT_FOREVER: Final = NamedPipeWait.NMPWAIT_WAIT_FOREVER

ERROR_SUCCESS: Final = WinError.ERROR_SUCCESS
ERROR_FILE_NOT_FOUND: Final = WinError.ERROR_FILE_NOT_FOUND
ERROR_CANNOT_CONNECT_TO_PIPE: Final = WinError.ERROR_CANNOT_CONNECT_TO_PIPE
ERROR_ACCESS_DENIED: Final = WinError.ERROR_ACCESS_DENIED
ERROR_INVALID_HANDLE: Final = WinError.ERROR_INVALID_HANDLE
ERROR_INVALID_PARAMETER: Final = WinError.ERROR_INVALID_PARAMETER
ERROR_BROKEN_PIPE: Final = WinError.ERROR_BROKEN_PIPE
ERROR_SEM_TIMEOUT: Final = WinError.ERROR_SEM_TIMEOUT
ERROR_INVALID_NAME: Final = WinError.ERROR_INVALID_NAME
ERROR_BAD_PIPE: Final = WinError.ERROR_BAD_PIPE
ERROR_PIPE_BUSY: Final = WinError.ERROR_PIPE_BUSY
ERROR_NO_DATA: Final = WinError.ERROR_NO_DATA
ERROR_PIPE_NOT_CONNECTED: Final = WinError.ERROR_PIPE_NOT_CONNECTED
ERROR_MORE_DATA: Final = WinError.ERROR_MORE_DATA
ERROR_PIPE_CONNECTED: Final = WinError.ERROR_PIPE_CONNECTED
ERROR_PIPE_LISTENING: Final = WinError.ERROR_PIPE_LISTENING
ERROR_OPERATION_ABORTED: Final = WinError.ERROR_OPERATION_ABORTED
ERROR_IO_INCOMPLETE: Final = WinError.ERROR_IO_INCOMPLETE
ERROR_IO_PENDING: Final = WinError.ERROR_IO_PENDING
ERROR_NOT_FOUND: Final = WinError.ERROR_NOT_FOUND

__all__ = [
    "CREATE_ALWAYS",
    "CREATE_NEW",
    "ERROR_ACCESS_DENIED",
    "ERROR_BAD_PIPE",
    "ERROR_BROKEN_PIPE",
    "ERROR_CANNOT_CONNECT_TO_PIPE",
    "ERROR_FILE_NOT_FOUND",
    "ERROR_INVALID_HANDLE",
    "ERROR_INVALID_NAME",
    "ERROR_INVALID_PARAMETER",
    "ERROR_IO_INCOMPLETE",
    "ERROR_IO_PENDING",
    "ERROR_MORE_DATA",
    "ERROR_NOT_FOUND",
    "ERROR_NO_DATA",
    "ERROR_OPERATION_ABORTED",
    "ERROR_PIPE_BUSY",
    "ERROR_PIPE_CONNECTED",
    "ERROR_PIPE_LISTENING",
    "ERROR_PIPE_NOT_CONNECTED",
    "ERROR_SEM_TIMEOUT",
    "ERROR_SUCCESS",
    "FILE_FLAG_FIRST_PIPE_INSTANCE",
    "FILE_FLAG_OVERLAPPED",
    "FILE_FLAG_WRITE_THROUGH",
    "FILE_READ_ATTRIBUTES",
    "FILE_WRITE_ATTRIBUTES",
    "GENERIC_ALL",
    "GENERIC_EXECUTE",
    "GENERIC_READ",
    "GENERIC_WRITE",
    "INVALID_HANDLE_VALUE",
    "NMPWAIT_NOWAIT",
    "NMPWAIT_USE_DEFAULT_WAIT",
    "NMPWAIT_WAIT_FOREVER",
    "OPEN_ALWAYS",
    "OPEN_EXISTING",
    "PIPE_ACCEPT_REMOTE_CLIENTS",
    "PIPE_ACCESS_DUPLEX",
    "PIPE_ACCESS_INBOUND",
    "PIPE_ACCESS_OUTBOUND",
    "PIPE_CLIENT_END",
    "PIPE_NOWAIT",
    "PIPE_READMODE_BYTE",
    "PIPE_READMODE_MESSAGE",
    "PIPE_REJECT_REMOTE_CLIENTS",
    "PIPE_SERVER_END",
    "PIPE_TYPE_BYTE",
    "PIPE_TYPE_MESSAGE",
    "PIPE_UNLIMITED_INSTANCES",
    "PIPE_WAIT",
    "SECURITY_ANONYMOUS",
    "SECURITY_CONTEXT_TRACKING",
    "SECURITY_DELEGATION",
    "SECURITY_EFFECTIVE_ONLY",
    "SECURITY_IDENTIFICATION",
    "SECURITY_IMPERSONATION",
    "SECURITY_SQOS_PRESENT",
    "TRUNCATE_EXISTING",
    "Access",
    "CreationDisposition",
    "NamedPipeWait",
    "OpenMode",
    "PipeEnd",
    "PipeMode",
    "SecurityQos",
    "WinError",
]
