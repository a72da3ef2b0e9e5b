"""What this process has of the system."""

import contextlib
import ctypes
import os
import sys

if sys.platform == "win32":
    from ctypes import wintypes

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.GetCurrentProcess.restype = wintypes.HANDLE
    _kernel.GetProcessHandleCount.argtypes = [wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD)]

    class _Counters(ctypes.Structure):
        _fields_ = [
            ("size", wintypes.DWORD),
            ("faults", wintypes.DWORD),
            *((name, ctypes.c_size_t) for name in ("peak", "working_set", "a", "b", "c", "d", "private", "e")),
        ]

    _kernel.K32GetProcessMemoryInfo.argtypes = [wintypes.HANDLE, ctypes.POINTER(_Counters), wintypes.DWORD]

    def handle_count():
        number = wintypes.DWORD()
        if not _kernel.GetProcessHandleCount(_kernel.GetCurrentProcess(), ctypes.byref(number)):
            raise ctypes.WinError(ctypes.get_last_error())
        return number.value

    def resident_bytes():
        counters = _Counters(size=ctypes.sizeof(_Counters))
        if not _kernel.K32GetProcessMemoryInfo(_kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
            raise ctypes.WinError(ctypes.get_last_error())
        return counters.working_set

    def use_one_heap():
        pass

    def release_free_memory():
        pass

else:
    _M_ARENA_MAX = -8

    def use_one_heap():
        """Each thread's own heap keeps what was once in it, which is more with every new thread."""
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)

    def release_free_memory():
        with contextlib.suppress(AttributeError):  # of C libraries other than GNU's
            ctypes.CDLL(None).malloc_trim(0)

    def handle_count():
        return len(os.listdir("/proc/self/fd"))

    def resident_bytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
