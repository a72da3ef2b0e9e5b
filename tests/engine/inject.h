/* Before everything else in the engine's sources: its allocations are
 * allocations.c's. */
#ifndef INJECT_H
#define INJECT_H

#include "allocations.h"

#define malloc(size) allocations_malloc(size)
#define calloc(count, size) allocations_calloc(count, size)
#define realloc(p, size) allocations_realloc(p, size)
#define free(p) allocations_free(p)

#endif
