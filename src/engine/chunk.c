#include "chunk.h"

#include <stdlib.h>

/* What one allocation takes, and how many of them are kept. */
static const struct {
    uint32_t size, kept;
} classes[NP_CHUNK_CLASSES] = {{512, 256}, {2048, 64}, {8192, 32}};

static uint32_t capacity_of(unsigned i) { return classes[i].size - (uint32_t)sizeof(np_chunk); }

np_chunk *np_chunk_new(np_chunk_pool *pool, size_t size) {
    unsigned i = 0;
    while (i < NP_CHUNK_CLASSES && size > capacity_of(i))
        i++;
    np_chunk *chunk = NULL;
    if (i < NP_CHUNK_CLASSES) {
        size = capacity_of(i);
        if (pool && (chunk = pool->free[i])) {
            pool->free[i] = chunk->next;
            pool->count[i]--;
        }
    }
    if (!chunk)
        chunk = malloc(sizeof *chunk + size);
    if (chunk)
        *chunk = (np_chunk){.capacity = (uint32_t)size};
    return chunk;
}

void np_chunk_free(np_chunk_pool *pool, np_chunk *chunk) {
    for (unsigned i = 0; pool && i < NP_CHUNK_CLASSES; i++) {
        if (chunk->capacity == capacity_of(i) && pool->count[i] < classes[i].kept) {
            chunk->next = pool->free[i];
            pool->free[i] = chunk;
            pool->count[i]++;
            return;
        }
    }
    free(chunk);
}

void np_chunk_pool_clear(np_chunk_pool *pool) {
    for (unsigned i = 0; i < NP_CHUNK_CLASSES; i++) {
        while (pool->free[i]) {
            np_chunk *next = pool->free[i]->next;
            free(pool->free[i]);
            pool->free[i] = next;
        }
        pool->count[i] = 0;
    }
}
