/* The numbers of Python's module errno. */
#ifndef ERRNOS_H
#define ERRNOS_H

#include <errno.h>

#endif
