#ifndef NP_WIRE_WAIT_H
#define NP_WIRE_WAIT_H

#include "wire.h"

/* Waits for one of the events, or what else ends the wait.  NP_OK: *which. */
np_code np_wire_wait(const HANDLE *events, size_t count, const np_wait *wait, size_t *which,
                     DWORD *os);
/* Makes a wire of a connected handle, which it takes over in every case. */
np_code np_wire_open(np_wire *wire, HANDLE handle, int *os);

#endif
