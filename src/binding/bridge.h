/* The host side of an endpoint: the one entrance of the GIL. */
#ifndef NP_BRIDGE_H
#define NP_BRIDGE_H

#include "atomic.h"
#include "state.h"

/* Lives as long as its Server or ClientManager or one of that's endpoints. */
struct bridge {
    np_atomic_u32 refs;
    PyInterpreterState *interpreter;
    np_mutex guard;
    endpoint_object *object;    /* guard; borrowed: NULL once the object is gone, and events go
                                   nowhere from then on.  bridge_object is the way to it; a
                                   loop's thread reads it without */
    np_cond revived;            /* bridge_revive_object, or bridge_leave */
    np_atomic_ptr raised;   /* what came of a signal inside a handshake's step */
    np_atomic_ptr kept;     /* the object, dropped inside a handler, until its run has ended */
    PyThread_type_lock packet_lock;     /* NULL: no packets, ever; guards */
    intptr_t packet_port, packet_address;
};

/* A thread that delivers: a worker, or a guest inside run, dispatch or stop. */
typedef struct bridge_thread {
    PyThreadState *state;
    bool guest;
    bool holds;             /* has the GIL all the time, and keeps it */
    PyObject *pending;      /* KeyboardInterrupt or SystemExit of a guest's handler */
} bridge_thread;

/* With one reference, the object's. */
bridge *bridge_new(endpoint_object *object);
/* A new reference to the object; NULL: it is gone, or about to be.  With the GIL, or
 * what is in its place. */
endpoint_object *bridge_object(bridge *b);
/* Where there is no GIL, an object that is being finalized can't be had, until the
 * finalizer calls this: before it waits for the last events. */
void bridge_revive_object(bridge *b);
void bridge_retain(bridge *b);
/* Keeps the object, whose finalizer runs inside its own handler, for the events
 * that are still to come. */
void bridge_keep_object(bridge *b);
/* Events that begin to wait are told of by a packet to this port, for which no thread
 * needs the GIL; 0: no longer.  The first time before there is a worker.  -1: no memory. */
int bridge_post_packets(bridge *b, intptr_t port, intptr_t address);
/* The object is gone, and its reference with it. */
void bridge_leave(bridge *b);
void bridge_host(bridge *b, np_host *host);

/* ---- deliver.c --------------------------------------------------------- */

/* One event, or several that are delivered together; how many. */
size_t bridge_deliver_one(endpoint_object *s, bridge_thread *t, np_event *e, size_t left);
/* The exception of something that was called is kept, or reported. */
void bridge_handler_failed(bridge_thread *t, PyObject *callable);

/* ---- shared with aio_deliver.c ---- */

static inline bool bridge_is_message_of(const np_event *e, const np_connection *connection) {
    return e->kind == NP_EVENT_MESSAGE && e->connection == connection;
}
/* Calls a handler, where there is one, with n arguments from args[1] on; its
 * result, NULL with an exception set, or NULL without one when there is none. */
PyObject *bridge_call(endpoint_object *s, const handler *h, PyObject **args, size_t n);
/* Keeps KeyboardInterrupt and SystemExit of a guest's handler for its end.
 * False: the exception is another one, and still set. */
bool bridge_keeps_exception(bridge_thread *t);
/* The exception of an ERROR event, kept by the connection where it is its own;
 * NULL without one set: it is nothing to report. */
PyObject *bridge_error(endpoint_object *s, connection_object *c, np_event *e);
/* It is why the connection ends, if it is the first. */
void bridge_keep_error(connection_object *c, PyObject *error);
/* The object of a connection that is connected, which the set of the live ones
 * has from now on; NULL with an exception set. */
connection_object *bridge_connected(endpoint_object *s, np_event *e);
/* The end of what bridge_connected began, and, once, of connect(). */
void bridge_disconnected(endpoint_object *s, connection_object *c);
void bridge_ended(endpoint_object *s, connection_object *c);

/* Around a guest's call of the engine: releases the GIL and takes it back. */
void bridge_guest_begin(bridge_thread *t);
void bridge_guest_end(bridge_thread *t);

#endif
