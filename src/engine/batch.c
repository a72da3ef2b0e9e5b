#include <stdlib.h>

#include "internal.h"

NP_THREAD_LOCAL np_batch *np_current_batch;

enum { EVENTS_FIRST = 256, EVENTS_KEPT = 16384 };

bool np_batch_open(np_batch *batch, np_worker *worker) {
    *batch = (np_batch){.worker = worker, .endpoint = worker->endpoint,
                        .chunks = &worker->chunks};
    batch->touched_tail = &batch->touched;
    batch->events = malloc(EVENTS_FIRST * sizeof *batch->events);
    batch->capacity = EVENTS_FIRST;
    return batch->events != NULL;
}

void np_batch_close(np_batch *batch) {
    free(batch->events);
    free(batch->arena.data);
    np_chunk_pool_clear(batch->chunks);
    batch->events = NULL;
    batch->arena.data = NULL;
}

void np_batch_grow(np_batch *batch) {
    size_t capacity = batch->capacity * 2;
    np_event *events = realloc(batch->events, capacity * sizeof *events);
    if (!events)
        abort();
    batch->events = events;
    batch->capacity = capacity;
}

void np_batch_error(np_batch *batch, np_connection *connection, np_error error, void *cookie) {
    np_event *e = np_batch_add(batch, NP_EVENT_ERROR, connection);
    e->cookie = cookie;
    e->u.error = error;
    np_add64_relaxed(&batch->worker->errors, 1);
}

void np_batch_touch(np_batch *batch, np_connection *connection) {
    if (connection->touched)
        return;
    connection->touched = true;
    connection->touched_next = NULL;
    *batch->touched_tail = connection;
    batch->touched_tail = &connection->touched_next;
}

void np_batch_reset(np_batch *batch) {
    batch->count = 0;
    batch->owns = false;
    batch->arena.used = 0;
    if (batch->capacity > EVENTS_KEPT) {
        np_event *events = realloc(batch->events, EVENTS_FIRST * sizeof *events);
        if (events) {
            batch->events = events;
            batch->capacity = EVENTS_FIRST;
        }
    }
}
