/* The host side of an endpoint: the one entrance of the GIL. */
#ifndef NP_BRIDGE_H
#define NP_BRIDGE_H

#include "atomic.h"
#include "state.h"

/* Lives as long as its Server or ClientManager or one of that's endpoints.
 * `object` is borrowed and guarded by the GIL: NULL once the object is gone, and
 * events go nowhere from then on. */
struct bridge {
    np_atomic_u32 refs;
    PyInterpreterState *interpreter;
    endpoint_object *object;
    PyObject *raised;       /* what came of a signal inside a handshake's step */
    np_atomic_ptr kept;     /* the object, dropped inside a handler, until its run has ended */
};

/* A thread that delivers: a worker, or a guest inside run, dispatch or stop. */
typedef struct bridge_thread {
    PyThreadState *state;
    bool guest;
    PyObject *pending;      /* KeyboardInterrupt or SystemExit of a guest's handler */
} bridge_thread;

/* With one reference, the object's. */
bridge *bridge_new(endpoint_object *object);
void bridge_retain(bridge *b);
/* Keeps the object, whose finalizer runs inside its own handler, for the events
 * that are still to come. */
void bridge_keep_object(bridge *b);
/* The object is gone, and its reference with it. */
void bridge_leave(bridge *b);
void bridge_host(bridge *b, np_host *host);

/* Around a guest's call of the engine: releases the GIL and takes it back. */
void bridge_guest_begin(bridge_thread *t);
void bridge_guest_end(bridge_thread *t);

#endif
