#include "system.h"

#include <stdio.h>
#include <windows.h>

static unsigned names;

bool system_begin(void) { return true; }

void system_end(void) {}

void system_sleep(unsigned milliseconds) { Sleep(milliseconds); }

void system_name(char *out, size_t capacity) {
    snprintf(out, capacity, "npipes-test-%lu-%u", GetCurrentProcessId(), ++names);
}

bool system_waitable(intptr_t waitable, unsigned milliseconds) {
    return WaitForSingleObject((HANDLE)waitable, milliseconds) == WAIT_OBJECT_0;
}

const unsigned system_spare_handles = 8;

unsigned system_handles(void) {
    DWORD count = 0;
    GetProcessHandleCount(GetCurrentProcess(), &count);
    return count;
}

bool system_is_no_memory(int os) { return os == ERROR_NOT_ENOUGH_MEMORY; }

const char *system_shares_names(void) {
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    return ntdll && GetProcAddress(ntdll, "wine_get_version")
               ? "Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE"
               : NULL;
}
