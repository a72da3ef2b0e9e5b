#ifndef NP_PORT_H
#define NP_PORT_H

#include "platform.h"

/* Joins a handle to the port for the rest of its life.  0 or GetLastError(). */
DWORD np_port_join(np_port *port, HANDLE handle);
/* Completes an operation that the system has not taken, out of the next
 * np_port_wait.  Any thread; one that may not be the port's poller must wake
 * the port afterwards. */
void np_port_complete(np_port *port, np_operation *op, np_code code, int os);

#endif
