#include <errno.h>

#include "linux.h"

np_code np_code_from_os(int os) {
    switch (os) {
    case 0: return NP_OK;
    case EPIPE: return NP_E_BROKEN;
    case ECONNRESET: return NP_E_RESET;
    case ECANCELED: return NP_E_CANCELED;
    case ENOMEM: return NP_E_MEMORY;
    case EADDRINUSE: return NP_E_EXISTS;
    default: return NP_E_SYSTEM;
    }
}

np_code np_system_error(np_error *error, int os) {
    error->os = os;
    error->code = NP_E_SYSTEM;
    return NP_E_SYSTEM;
}
