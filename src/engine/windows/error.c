/* The system's errors as the engine's, once, where they come in. */
#include "error.h"

np_code np_code_from_os(int os) {
    switch (os) {
    case ERROR_OPERATION_ABORTED: return NP_E_CANCELED;
    /* The peer is gone; a read calls that NP_E_EOF. */
    case ERROR_BROKEN_PIPE:
    case ERROR_NO_DATA:
    case ERROR_PIPE_NOT_CONNECTED: return NP_E_BROKEN;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY: return NP_E_MEMORY;
    case ERROR_SEM_TIMEOUT:
    case WAIT_TIMEOUT: return NP_E_TIMEOUT;
    default: return NP_E_SYSTEM;
    }
}

np_code np_error_set(np_error *error, np_code code, DWORD os, uint64_t value, uint64_t limit) {
    *error = (np_error){.code = code, .os = (int)os, .value = value, .limit = limit};
    return code;
}

np_code np_error_from_os(np_error *error, DWORD os) {
    return np_error_set(error, np_code_from_os((int)os), os, 0, 0);
}
