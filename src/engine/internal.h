/* What the portable engine's files offer each other, file by file.  The objects
 * that they work on, and what guards each field of those, are in objects.h. */
#ifndef NP_INTERNAL_H
#define NP_INTERNAL_H

#include "objects.h"

/* ---- batch.c: events in the making ------------------------------------- */

extern NP_THREAD_LOCAL np_batch *np_current_batch;  /* whose events this thread delivers */

/* Around host code that runs for a batch. */
static inline void np_batch_make_current(np_batch *batch) {
    batch->outer = np_current_batch;
    np_current_batch = batch;
}
static inline void np_batch_end_current(np_batch *batch) { np_current_batch = batch->outer; }

bool np_batch_open(np_batch *batch, np_worker *worker);
void np_batch_close(np_batch *batch);
void np_batch_grow(np_batch *batch);
/* Moves events to memory for `capacity` of them.  What they tell of has happened, so
 * that memory is waited for; without any for a second the engine aborts, as its
 * state can't be reported any more. */
np_event *np_events_grow(np_event *events, size_t capacity);

/* A new event at the end; never NULL. */
static inline np_event *np_batch_add(np_batch *batch, np_event_kind kind,
                                     np_connection *connection) {
    if (batch->count == batch->capacity)
        np_batch_grow(batch);
    np_event *e = &batch->events[batch->count++];
    e->kind = kind;
    e->connection = connection;
    e->cookie = NULL;
    return e;
}
void np_batch_error(np_batch *batch, np_connection *connection, np_error error, void *cookie);
void np_batch_touch(np_batch *batch, np_connection *connection);
void np_batch_reset(np_batch *batch);

/* ---- inbound.c: bytes to messages; poller only ------------------------- */

/* Takes what a read brought.  NP_OK, or why the connection must end. */
np_code np_inbound_feed(np_connection *c, np_batch *batch, const np_completion *done,
                        np_error *error);
/* Where the next read should go: the rest of a large message, or NULL. */
uint8_t *np_inbound_target(np_connection *c, size_t *capacity);
/* The host made or enlarged the arriving message's buffer (NULL: it could not). */
bool np_inbound_buffer_ready(np_connection *c, np_buffer *buffer);
/* Hands held messages to read()s that wait for them. */
void np_inbound_serve_reads(np_connection *c, np_batch *batch);
/* True inside a message: its header or body is incomplete. */
bool np_inbound_is_partial(const np_connection *c);
/* The bytes that have come of it. */
uint64_t np_inbound_partial_size(const np_connection *c);
/* Sets or clears the timer of message_timeout_ns, as the message that arrives asks. */
void np_inbound_watch(np_connection *c);
void np_inbound_clear(np_connection *c);

/* ---- outbound.c: accepted writes to the link --------------------------- */

np_code np_outbound_write(np_connection *c, const np_message *messages, size_t count, void *cookie,
                          np_error *error);
/* Hands over what the link takes; connection's lock held; pool is the calling
 * thread's, or NULL.  Posts what follows
 * from it (sent, drained, failed) as requests. */
void np_outbound_flush_locked(np_connection *c, np_chunk_pool *pool);
/* The pending write completed. */
void np_outbound_completed(np_connection *c, const np_completion *done);
/* Turns handed-over writes into SENT events; poller only. */
void np_outbound_report(np_connection *c, np_batch *batch);
/* Ends every write that is still queued, those with a cookie by an ERROR event. */
void np_outbound_fail_all(np_connection *c, np_batch *batch, np_error error);

/* ---- connection.c: states and the close protocol; poller only ---------- */

np_connection *np_connection_new(np_endpoint *endpoint, np_worker *worker, const np_link *link);
void np_connection_open(np_connection *c, np_batch *batch);
/* The link is attached: begins the handshake if there is to be one, or ends it
 * when it is closed already. */
void np_connection_opened(np_connection *c, np_batch *batch);
/* Reports CONNECTED, or ends it likewise. */
void np_connection_established(np_connection *c, np_batch *batch);
/* The first failure is the connection's. */
void np_connection_note(np_connection *c, np_error error);
/* The same, and reports it. */
void np_connection_record(np_connection *c, np_batch *batch, np_error error);
void np_connection_on_read(np_connection *c, np_batch *batch, const np_completion *done);
void np_connection_on_write(np_connection *c, np_batch *batch, const np_completion *done);
void np_connection_on_requests(np_connection *c, np_batch *batch, uint32_t requests);
/* After a batch: reads on, drains, closes, as the state asks. */
void np_connection_pump(np_connection *c, np_batch *batch);
void np_connection_abort(np_connection *c, np_batch *batch);

/* ---- connection_calls.c: any thread ------------------------------------ */

/* Queues requests for the poller and wakes it. */
void np_connection_post(np_connection *c, uint32_t requests);
/* Has the poller report a write that was not accepted.  False: without the cookie,
 * for lack of memory, or not at all, as the connection ends. */
bool np_connection_refused(np_connection *c, np_error error, void *cookie);

/* ---- greeting.c: the handshake of a connection; poller only ------------ */

static inline bool np_endpoint_greets(const np_endpoint *endpoint) {
    return endpoint->host.secrets.mac != NULL;
}

/* With endpoint's lock held.  False: no memory. */
bool np_greeting_new_locked(np_connection *c);
void np_greeting_end_locked(np_connection *c);
/* More are in their handshakes than max_handshakes allows. */
bool np_greeting_is_crowded_locked(const np_endpoint *endpoint);
void np_greeting_make_room_locked(np_endpoint *endpoint);
void np_greeting_crowded(np_connection *c, np_batch *batch);
void np_greeting_begin(np_connection *c, np_batch *batch);
void np_greeting_on_read(np_connection *c, np_batch *batch, const np_completion *done);
void np_greeting_on_write(np_connection *c, np_batch *batch, const np_completion *done);
void np_greeting_pump(np_connection *c, np_batch *batch);
/* Steps of the batch's handshakes; with the host's lock. */
void np_greeting_steps(np_batch *batch);

/* ---- accept.c: instances and max_instances ----------------------------- */

np_code np_accept_start(np_endpoint *endpoint, np_error *error);
/* Arms as many instances as configuration allows; endpoint's lock held.
 * Failures become events where batch is not NULL. */
np_code np_accept_arm_locked(np_endpoint *endpoint, np_batch *batch, np_error *error);
/* There is room again; endpoint's lock held. */
void np_accept_again_locked(np_endpoint *endpoint, np_batch *batch);
void np_accept_completed(np_worker *worker, np_batch *batch, const np_completion *done);
/* The connection has ended: closes its link, or reuses it for the next client. */
void np_accept_reuse(np_connection *c, np_batch *batch);
void np_accept_stop(np_endpoint *endpoint);
/* The endpoint ends, and no instance is armed. */
void np_accept_free(np_endpoint *endpoint);

/* ---- client.c: connecting, waiting, reconnecting; poller only ---------- */

void np_client_on_requests(np_connection *c, np_batch *batch, uint32_t requests);
void np_client_completed(np_connection *c, np_batch *batch, const np_completion *done);
/* The connection is being aborted while it dials. */
void np_client_cancel(np_connection *c);
/* It is connected. */
void np_client_established(np_connection *c);
/* The handshake failed: reports it where it is time to, and ends the link. */
void np_client_refused(np_connection *c, np_batch *batch, np_error error);
/* It is to be made again; connection's lock held. */
bool np_client_goes_on_locked(const np_connection *c);
/* The connection has ended: closes its link.  `again`: it is DIALING now, until
 * the host has seen its DISCONNECTED. */
void np_client_ended(np_connection *c, bool again);
/* The host has seen a DISCONNECTED.  Any thread. */
void np_client_delivered(np_connection *c);
void np_client_free(np_client *client);

/* ---- delivery.c: batches to the host ----------------------------------- */

/* What one round did, for the guest that asked for it. */
typedef struct np_round {
    size_t delivered;
    bool idle;                      /* nothing completed, nothing was delivered */
    bool leave;                     /* the host wants the guest's call to end */
    bool attention;                 /* np_endpoint_interrupt was called */
} np_round;

/* Gives the batch to the host now (a guest, or free-threaded), or queues it;
 * then flushes and pumps. */
void np_delivery_run(np_batch *batch, void *thread, bool queue, np_round *round);
/* Delivers a bounded number of queued events.  False: there were none. */
bool np_delivery_backlog(np_endpoint *endpoint, void *thread, np_round *round);
size_t np_delivery_backlog_count(np_endpoint *endpoint);
/* Takes a buffer whose last reference is gone. */
void np_delivery_trash(np_endpoint *endpoint, np_buffer *buffer);

/* ---- worker.c: polling ------------------------------------------------- */

void np_worker_main(void *worker);
/* One round: wait, process, deliver.  Poller only. */
void np_worker_poll(np_worker *worker, void *thread, int64_t timeout_ns, bool queue,
                    np_round *round);
/* Rounds of a poller that never waits, until there is nothing left to do now;
 * the time after which its timers want the next one, -1: none. */
int64_t np_worker_drive(np_worker *worker, void *thread, np_round *round);
/* Ends the poller's sleep.  Any thread, after what it is to see was stored. */
void np_worker_wake(np_worker *worker);
void np_worker_process(np_worker *worker, np_batch *batch, size_t count);
/* What timers go by. */
int64_t np_worker_now(const np_worker *worker);
/* Poller only, like the timers' ends. */
void np_timer_set(np_worker *worker, np_timer *timer, int64_t delay_ns);
/* The same for a message's timeout, which may be that of thousands of
 * connections at once: without a search for its place. */
void np_timer_append(np_worker *worker, np_timer *timer, int64_t delay_ns);
void np_timer_clear(np_timer *timer);

/* ---- guest.c: the lease ------------------------------------------------ */

void np_lease_enter_worker(np_endpoint *endpoint);
void np_lease_leave_worker(np_endpoint *endpoint);

/* ---- endpoint.c -------------------------------------------------------- */

/* The worker with the fewest connections; of several, the one with the fewest
 * instances that wait.  Endpoint's lock held. */
np_worker *np_endpoint_pick_locked(np_endpoint *endpoint);

/* Closes ports and signals: the endpoint has stopped, its threads are joined
 * and no guest is inside. */
void np_endpoint_close(np_endpoint *endpoint);
/* The worker has nothing left; the last one ends the endpoint. */
void np_endpoint_worker_drained(np_worker *worker);

static inline bool np_endpoint_is_stopping(const np_endpoint *endpoint) {
    return np_load32(&endpoint->phase) >= NP_PHASE_STOPPING;
}

static inline np_error np_error_make(np_code code, np_activity activity) {
    return (np_error){.code = code, .activity = activity};
}

#endif
