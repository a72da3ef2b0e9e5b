/* The numbers of Python's module errno: for these it has the sockets', not the C
 * library's. */
#ifndef ERRNOS_H
#define ERRNOS_H

#include <errno.h>
#include <winerror.h>

#undef ECONNRESET
#undef EMSGSIZE
#undef ENOBUFS
#undef ETIMEDOUT
#define ECONNRESET WSAECONNRESET
#define EMSGSIZE WSAEMSGSIZE
#define ENOBUFS WSAENOBUFS
#define ETIMEDOUT WSAETIMEDOUT

#endif
