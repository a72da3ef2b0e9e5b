#ifndef NP_ERROR_H
#define NP_ERROR_H

#include "platform.h"

/* Fills in *error for an error of the system and returns its code. */
np_code np_error_from_os(np_error *error, DWORD os);
/* Likewise with a code of the engine's. */
np_code np_error_set(np_error *error, np_code code, DWORD os, uint64_t value, uint64_t limit);

#endif
