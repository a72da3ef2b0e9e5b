/* Memory for bytes on their way out, and the few pieces of it that a poller
 * keeps for its next batch: the general allocator is slow for hundreds of
 * connections that all need some at once. */
#ifndef NP_CHUNK_H
#define NP_CHUNK_H

#include <stddef.h>
#include <stdint.h>

typedef struct np_chunk {
    struct np_chunk *next;
    uint32_t capacity, head, tail;
    uint8_t data[];
} np_chunk;

enum { NP_CHUNK_CLASSES = 3 };

/* Of one thread: whoever polls the worker it belongs to.  Zeroed: empty. */
typedef struct np_chunk_pool {
    np_chunk *free[NP_CHUNK_CLASSES];
    uint32_t count[NP_CHUNK_CLASSES];
} np_chunk_pool;

/* An empty chunk with room for size bytes or more; NULL: no memory.  A thread
 * without a pool gives NULL. */
np_chunk *np_chunk_new(np_chunk_pool *pool, size_t size);
void np_chunk_free(np_chunk_pool *pool, np_chunk *chunk);
void np_chunk_pool_clear(np_chunk_pool *pool);

#endif
