/* The engine's allocations: counted, and some of them fail where a test wants
 * it: inject.h puts these in their place. */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

void *allocations_malloc(size_t size);
void *allocations_calloc(size_t count, size_t size);
void *allocations_realloc(void *p, size_t size);
void allocations_free(void *p);

/* Of those that follow, in the order in which any thread makes them, the
 * `first` (from 1) fails, and as many after it as make `count`; 0, 0: none. */
void allocations_fail(uint32_t first, uint32_t count);
/* How many did, since the program began. */
uint32_t allocations_failed(void);
/* This thread's do not fail, and are none of those; what it was before. */
bool allocations_spare(bool spared);
/* Blocks that the engine has not freed. */
int64_t allocations_live(void);

#endif
