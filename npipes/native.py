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

from npipes import constants as _constants
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
    "CallNamedPipe",
    "CancelIo",
    "CloseHandle",
    "ConnectNamedPipe",
    "CreateFile",
    "CreateNamedPipe",
    "DisconnectNamedPipe",
    "FlushFileBuffers",
    "GetNamedPipeHandleState",
    "GetNamedPipeInfo",
    "PeekNamedPipe",
    "PeekResult",
    "PipeHandleState",
    "PipeInfo",
    "ReadFile",
    "SecurityAttributes",
    "SetNamedPipeHandleState",
    "TransactNamedPipe",
    "WaitNamedPipe",
    "WriteFile",
]
__all__ += _constants.__all__
