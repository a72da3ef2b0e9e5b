"""Windows: what this process holds, as the system counts it."""

import ctypes
from ctypes import wintypes


class _Counters(ctypes.Structure):
    _fields_ = [
        ("cb", wintypes.DWORD),
        ("PageFaultCount", wintypes.DWORD),
        *((name, ctypes.c_size_t) for name in (
            "PeakWorkingSetSize", "WorkingSetSize", "QuotaPeakPagedPoolUsage",
            "QuotaPagedPoolUsage", "QuotaPeakNonPagedPoolUsage", "QuotaNonPagedPoolUsage",
            "PagefileUsage", "PeakPagefileUsage", "PrivateUsage")),
    ]


def _process():
    current = ctypes.windll.kernel32.GetCurrentProcess
    current.restype = wintypes.HANDLE
    return wintypes.HANDLE(current())


def private_bytes():
    counters = _Counters(cb=ctypes.sizeof(_Counters))
    assert ctypes.windll.psapi.GetProcessMemoryInfo(_process(), ctypes.byref(counters), counters.cb)
    return counters.PrivateUsage


def handle_count():
    count = wintypes.DWORD()
    assert ctypes.windll.kernel32.GetProcessHandleCount(_process(), ctypes.byref(count))
    return count.value
