#include <stdlib.h>

#include "internal.h"

NP_THREAD_LOCAL np_batch *np_current_batch;

enum { EVENTS_FIRST = 256, EVENTS_KEPT = 16384, MEMORY_ATTEMPTS = 100 };

#define MEMORY_PAUSE_NS INT64_C(10000000)

bool np_batch_open(np_batch *batch, np_worker *worker) {
    *batch = (np_batch){.worker = worker, .endpoint = worker->endpoint, .chunks = &worker->chunks};
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

static void wait_for_memory(void) {
    np_mutex lock;
    np_cond never;
    np_mutex_init(&lock);
    np_cond_init(&never);
    np_mutex_lock(&lock);
    np_cond_wait_for(&never, &lock, MEMORY_PAUSE_NS);
    np_mutex_unlock(&lock);
    np_cond_destroy(&never);
    np_mutex_destroy(&lock);
}

np_event *np_events_grow(np_event *events, size_t capacity) {
    for (unsigned i = 0; i < MEMORY_ATTEMPTS; i++) {
        np_event *grown = realloc(events, capacity * sizeof *events);
        if (grown)
            return grown;
        wait_for_memory();
    }
    abort();
}

void np_batch_grow(np_batch *batch) {
    batch->events = np_events_grow(batch->events, batch->capacity * 2);
    batch->capacity *= 2;
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
