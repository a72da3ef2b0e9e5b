/* What waits to go out on one connection: records in order, their bytes in
 * chunks that never move (a pending write may point into them) or in buffers
 * that are held.  Not thread-safe: the connection's lock guards it. */
#ifndef NP_OUTBOX_H
#define NP_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "chunk.h"
#include "frame.h"
#include "npipes.h"
#include "platform.h"

enum { NP_MERGED_MAX = 1 << 30 };   /* of a record's inline_size */

/* One accepted write: inline_size bytes in the chunks, then all of held. */
typedef struct np_record {
    void *cookie;
    np_buffer *held;
    uint64_t size;                  /* with headers */
    uint64_t payload;               /* without */
    uint32_t inline_size;
    uint32_t messages;              /* more than one where records were merged */
    bool report;                    /* goes to `sent` when it is handed over */
} np_record;

typedef struct np_outbox {
    np_chunk *first, *last;
    np_record *records;             /* a ring; capacity is a power of two */
    uint32_t head, count, capacity;
    uint32_t chunk_hint;            /* bytes the next first chunk should have */
    uint32_t held_count;
    bool extendable;                /* the last record ends where the last chunk does */
    uint32_t extensions;            /* messages after it in that chunk, from `entered` on, */
    uint32_t entered;               /* that the record does not count yet */
    uint64_t bytes;                 /* of all records, less head_taken */
    uint64_t head_taken;            /* bytes of the head record already handed over */
    void **sent;                    /* cookies of records handed over, in order */
    size_t sent_count, sent_capacity;
} np_outbox;

/* Adds a record: header and data are copied, or data is held's and one of its
 * references is taken over.  Records that nobody asks about may become one
 * where `merge`.  False: no memory, nothing changed. */
bool np_outbox_add(np_outbox *out, np_chunk_pool *pool, const np_record *record,
                   const uint8_t *header, unsigned header_size, const void *data, size_t size,
                   bool merge);
/* Of an empty outbox: makes a record without bytes, for np_outbox_extend to put
 * messages into, the first of them one of `size` bytes.  False: no memory. */
bool np_outbox_begin(np_outbox *out, np_chunk_pool *pool, size_t size);
/* Makes room for so many records that are added next, with `bytes` in the chunks
 * altogether, so that none of these can fail.  False: no memory. */
bool np_outbox_reserve(np_outbox *out, np_chunk_pool *pool, uint32_t records, size_t bytes,
                       bool report);
/* Extends the last record by one framed message, where that is possible without
 * memory and nobody asks about either: most writes of a batch.  What the record
 * gains by it is entered when the record is next looked at. */
static inline bool np_outbox_extend(np_outbox *out, const void *data, uint32_t size) {
    np_chunk *chunk = out->last;
    uint32_t framed = size + NP_HEADER_MIN;
    if (!out->extendable || chunk->capacity - chunk->tail < framed)
        return false;
    uint8_t *to = chunk->data + chunk->tail;
    np_frame_put32(to, size);
    if (size)
        memcpy(to + NP_HEADER_MIN, data, size);
    chunk->tail += framed;
    out->bytes += framed;
    out->extensions++;
    return true;
}
/* The next bytes in order, at most max slices; one record's only where `one`. */
size_t np_outbox_gather(np_outbox *out, np_slice *slices, size_t max, bool one);
/* n bytes were handed over (exactly one record's where `one`).  Released
 * buffers are chained onto *released by their next; *whole grows by the
 * messages that are now handed over. */
typedef struct np_tally {
    uint64_t messages, bytes;
} np_tally;
void np_outbox_advance(np_outbox *out, np_chunk_pool *pool, uint64_t n, bool one,
                       np_buffer **released, np_tally *whole);
/* Takes the head record off, whatever of it was handed over. */
np_record np_outbox_pop(np_outbox *out, np_chunk_pool *pool);
void np_outbox_clear(np_outbox *out);

#endif
