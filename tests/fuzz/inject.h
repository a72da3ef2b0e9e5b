/* Before everything else in the engine's sources: allocations that may fail. */
#ifndef INJECT_H
#define INJECT_H

#include <stdlib.h>

void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t count, size_t size);
void *fuzz_realloc(void *p, size_t size);

#define malloc fuzz_malloc
#define calloc fuzz_calloc
#define realloc fuzz_realloc

#endif
