/* Endpoints on an event loop.
 *
 * A Server or ClientManager that aio_attach was called for has a loop.  The
 * loop calls _drive when the engine's port is readable (driven), or after a
 * worker has asked for it (else).  Inside it the engine delivers a batch: what
 * came goes to the connections' queues, and a task that waits for it runs there
 * and then; what the tasks write goes out together when the batch ends.
 *
 * All of it happens on the loop's thread, with the GIL held. */
#ifndef NP_AIO_H
#define NP_AIO_H

#include "bridge.h"

typedef struct waiter waiter;

enum { AIO_MESSAGE_COST = 64 };         /* of the object, besides its bytes */

/* The loop's side of an endpoint; owned by its endpoint_object. */
struct aio {
    PyObject *loop;
    PyObject *report;               /* report(message, exception, connection) */
    PyObject *ended;                /* ended(connection): one that was dialed is over */
    PyObject *get_loop;             /* a function that returns it */
    PyObject *timer;                /* of _drive; NULL: none */
    int64_t timer_at;
    bool driven;
    bool driving;                   /* inside _drive */
    unsigned long ident;            /* of the thread of the last drive: the loop's; 0: none yet */
    bool calling;                   /* application code runs inside it: no task can be resumed */
    bool large;                     /* the last drive moved much: the next gives the GIL away */
    bridge_thread *thread;          /* of the current drive */
};

/* Waiters in the order in which they began to wait; each holds a reference. */
typedef struct waiter_queue {
    waiter *first, *last;
} waiter_queue;

typedef struct aio_connection {
    connection_object base;
    PyObject *loop;
    PyObject **messages;            /* a ring of bytes objects; capacity is a power of two */
    size_t head, count, capacity;
    uint64_t bytes;                 /* of all of them */
    bool opened;
    bool paused;                    /* reading is: enough waits in messages */
    bool ended;                     /* the last message has come */
    bool closing;                   /* close() was called */
    bool finishing;                 /* the server closes: what came is the last */
    bool closed;                    /* nothing of it is left in the engine */
    np_error end;                   /* why it ended; code NP_OK: orderly */
    waiter_queue readers, writers, watchers;
    waiter *spares[2];              /* that can be handed out again */
} aio_connection;

/* ---- aio_loop.c -------------------------------------------------------- */

PyObject *aio_attach(PyObject *endpoint, PyObject *args);
/* From now on a packet with this address to this completion port has the loop
 * call _drive; 0: no longer. */
PyObject *aio_wake_by(PyObject *endpoint, PyObject *args);
PyObject *aio_drive(PyObject *endpoint, PyObject *unused);
PyObject *aio_tick(PyObject *endpoint, PyObject *unused);
/* No new connections; those that there are go on. */
PyObject *aio_stop_listening(PyObject *endpoint, PyObject *unused);
int aio_traverse(aio *a, visitproc visit, void *arg);
void aio_clear(aio *a);
void aio_free(aio *a);
/* Has the loop call _drive soon; any thread, GIL held. */
void aio_wake(endpoint_object *s);
/* loop.call_soon(callback, argument, context=context), or loop.call_soon_threadsafe;
 * a loop that is closed calls nothing any more. */
void aio_call(PyObject *loop, const char *how, PyObject *callback, PyObject *argument,
              PyObject *context);
/* Takes the current exception to the loop's exception handler, or, where it is
 * to end the program, out of _drive. */
void aio_report(endpoint_object *s, const char *message, PyObject *connection);

/* ---- aio_deliver.c ----------------------------------------------------- */

/* One event, or several messages of one connection; how many. */
size_t aio_deliver_one(endpoint_object *s, bridge_thread *t, np_event *e, size_t left);

/* ---- aio_connection.c -------------------------------------------------- */

extern PyType_Spec aio_connection_spec;
connection_object *aio_connection_new(module_state *state, bridge *b, PyObject *loop);
/* The loop's side of the endpoint; NULL once the endpoint's object is gone. */
aio *aio_of(const aio_connection *c);
/* Room for more messages than there is. */
int aio_connection_grow(aio_connection *c);
/* What a message that waits counts for. */
static inline uint64_t aio_connection_cost(PyObject *message) {
    return (uint64_t)PyBytes_GET_SIZE(message) + AIO_MESSAGE_COST;
}
/* Takes the reference over where it succeeds. */
static inline int aio_connection_push(aio_connection *c, PyObject *message) {
    if (c->count == c->capacity && aio_connection_grow(c) < 0)
        return -1;
    c->messages[(c->head + c->count++) & (c->capacity - 1)] = message;
    c->bytes += aio_connection_cost(message);
    return 0;
}
/* The oldest message, of which there is one. */
static inline PyObject *aio_connection_pop(aio_connection *c) {
    PyObject *message = c->messages[c->head];
    c->head = (c->head + 1) & (c->capacity - 1);
    c->count--;
    c->bytes -= aio_connection_cost(message);
    return message;
}
/* Reading pauses while enough waits, and goes on when half of it was taken. */
void aio_connection_balance(aio_connection *c);
/* Nothing more is to be received after what waits. */
static inline bool aio_connection_is_over(const aio_connection *c) {
    return c->ended || c->closing || c->closed || c->finishing;
}
/* The exception that tells why; always NULL. */
PyObject *aio_connection_raise_end(aio_connection *c);
/* Sends it where that is simple: it joins what was sent in this turn of the
 * loop. */
bool aio_connection_append(aio_connection *c, PyObject *data);
/* What can't be sent any more raises; -1 then. */
int aio_connection_send(aio_connection *c, PyObject *data);
/* Resumes those whose time has come. */
void aio_connection_wake_readers(aio_connection *c);
void aio_connection_wake_writers(aio_connection *c);

/* ---- aio_waiter.c, aio_await.c, aio_future.c --------------------------- */

typedef enum waiter_kind {
    WAIT_RECV,
    WAIT_NEXT,          /* of async for */
    WAIT_CALL,          /* sends, then receives */
    WAIT_SEND,
    WAIT_DRAIN,
    WAIT_OPEN,
    WAIT_CLOSED,
    WAIT_ENTER          /* of async with */
} waiter_kind;

extern PyType_Spec waiter_spec;
/* A function without arguments that returns the value. */
PyObject *waiter_make_getter(PyObject *value);
/* An awaitable; data is what SEND and CALL send. */
PyObject *waiter_new(aio_connection *c, waiter_kind kind, PyObject *data);
/* Resumes the first of the queue, if it waits. */
void waiter_wake_first(waiter_queue *queue);
/* Somebody waits for the end of the connection. */
bool waiter_wants_end(const aio_connection *c);
/* Resumes all that wait for what the connection is now: open, or closed. */
void waiter_wake_watchers(aio_connection *c);
/* Takes messages off that belong to calls that were cancelled. */
void waiter_skip_abandoned(aio_connection *c);
int waiter_queue_traverse(const waiter_queue *queue, visitproc visit, void *arg);
void waiter_queue_clear(waiter_queue *queue);

#endif
