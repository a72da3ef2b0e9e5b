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

const char *system_shares_names(void) {
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    return ntdll && GetProcAddress(ntdll, "wine_get_version")
               ? "Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE" : NULL;
}
