/* Inside of np_buffer: one message's memory, shared by counted references. */
#ifndef NP_BUFFER_H
#define NP_BUFFER_H

#include "atomic.h"
#include "npipes.h"

/* Constant but for refs while there are several references; of the only one's
 * owner before and after. */
struct np_buffer {
    np_atomic_u32 refs;
    uint8_t *data;
    size_t size;                    /* valid bytes */
    size_t capacity;
    const np_buffer_ops *ops;
    void *owner;                    /* NULL: data follows this struct */
    np_buffer *next;                /* trash, held messages */
    void *cookie;                   /* held messages only */
};

/* Makes room, keeping the first `size` bytes; engine memory may move, so the
 * handle may change.  NULL: no memory, the old buffer stays. */
np_buffer *np_buffer_resize(np_buffer *buffer, size_t capacity);

#endif
