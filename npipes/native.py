"""Windows' functions and constants for named pipes, under their Windows names.

For programs that know these functions from elsewhere, and for tests of a server against the
system's own calls. Names and parameters are those of Windows' documentation; what Windows stores in
the caller's buffers is returned, and failures are OSError with `winerror`.

- Handles are ints. Nothing closes one but CloseHandle.
- Every call releases the GIL, and one that waits returns when the thing is done, whether or not the
  handle was opened with FILE_FLAG_OVERLAPPED. With the flag, several threads may wait on one handle
  at a time (one reads, another writes). Without it, Windows makes every further call on the handle
  wait for the first.
- CancelIo ends waiting calls from another thread. Ctrl-C does not.
"""

import sys

if sys.platform != "win32":
    raise ImportError(
        "npipes.native has Windows' own functions and can only be imported there; "
        "the constants are in npipes.constants on every system",
        name=__name__,
    )

from npipes._native import (
    CallNamedPipe,
    CancelIo,
    CloseHandle,
    ConnectNamedPipe,
    CreateFile,
    CreateNamedPipe,
    DisconnectNamedPipe,
    FlushFileBuffers,
    GetNamedPipeHandleState,
    GetNamedPipeInfo,
    GetNamedPipeServerProcessId,
    PeekNamedPipe,
    PeekResult,
    PipeHandleState,
    PipeInfo,
    ReadFile,
    SecurityAttributes,
    SetNamedPipeHandleState,
    TransactNamedPipe,
    WaitNamedPipe,
    WriteFile,
)
from npipes.constants import *

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
    "CallNamedPipe",
    "CancelIo",
    "CloseHandle",
    "ConnectNamedPipe",
    "CreateFile",
    "CreateNamedPipe",
    "CreationDisposition",
    "DisconnectNamedPipe",
    "FlushFileBuffers",
    "GetNamedPipeHandleState",
    "GetNamedPipeInfo",
    "GetNamedPipeServerProcessId",
    "NamedPipeWait",
    "OpenMode",
    "PeekNamedPipe",
    "PeekResult",
    "PipeEnd",
    "PipeHandleState",
    "PipeInfo",
    "PipeMode",
    "ReadFile",
    "SecurityAttributes",
    "SecurityQos",
    "SetNamedPipeHandleState",
    "TransactNamedPipe",
    "WaitNamedPipe",
    "WinError",
    "WriteFile",
]
