/* What recv(), send() and the others return: an awaitable that is complete at
 * once when it can be, and else is the future that its task waits for.
 *
 * Nothing is taken or sent before the task runs again: a message is taken off
 * the queue, and a write handed over, in the step that gives the result.  So a
 * task that is cancelled in between loses nothing, and sends nothing.
 *
 *   FRESH    not awaited yet
 *   WAITING  yielded to the task, in a queue of the connection's
 *   WOKEN    the task has been resumed, or will be
 *   OVER     has given its result, raised, or was cancelled
 *
 * A task waits for it as for a future: asyncio takes whatever has
 * _asyncio_future_blocking for one (asyncio.isfuture).  Before it is awaited
 * that is None, so that gather() and the like make a task of it.
 *
 * A connection keeps two that are over, to hand them out again when nobody else
 * has them: one is in use while a task waits and is resumed, the other for what
 * that task does next.  While it is FRESH, WAITING or WOKEN a waiter has a
 * reference to its connection. */
#ifndef NP_AIO_WAITER_H
#define NP_AIO_WAITER_H

#include "aio.h"

/* What seldom happens stays out of what happens for every message, which then needs
 * no frame. */
#ifdef _MSC_VER
#define NP_NOINLINE __declspec(noinline)
#else
#define NP_NOINLINE __attribute__((noinline))
#endif

typedef enum stage { FRESH, WAITING, WOKEN, OVER } stage;

struct waiter {
    PyObject_HEAD
    module_state *state;
    aio_connection *connection;     /* NULL when it is over and nothing is asked of it */
    waiter_queue *queue;            /* that it is in, or NULL */
    waiter *previous, *next;
    PyObject *data;
    PyObject *callback, *context;   /* the task's */
    PyObject *cancel_message;
    unsigned char kind, stage;
    bool blocking;                  /* yielded, and the task has not seen it yet */
    bool cancelled;
    bool sent;                      /* CALL: its message is on its way */
    bool abandoned;                 /* CALL: in the queue only to take its reply off it */
};

/* By kind: the methods of a Connection that return them. */
extern const char *const waiter_names[];

/* ---- aio_waiter.c: queues, and life ------------------------------------ */

void waiter_enqueue(waiter *w, waiter_queue *queue);
void waiter_dequeue(waiter *w);
/* It is over; who waited behind it may be next. */
void waiter_finish(waiter *w);
/* Nobody waits for it any more.  The reply of a call that was sent still comes. */
void waiter_abandon(waiter *w);

/* ---- aio_await.c: what it waits for, and as an awaitable --------------- */

/* Whether what one of the watchers waits for has come about. */
bool waiter_watches_for(const waiter *w, const aio_connection *c);
PyObject *waiter_await(PyObject *self);
PyObject *waiter_iternext(PyObject *self);
PySendResult waiter_am_send(PyObject *self, PyObject *value, PyObject **result);
extern PyMethodDef waiter_methods[];

/* ---- aio_future.c: as a future ----------------------------------------- */

PyObject *waiter_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names_given);
PyObject *waiter_remove_done_callback(PyObject *self, PyObject *callback);
PyObject *waiter_cancel(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *waiter_result(PyObject *self, PyObject *unused);
PyObject *waiter_done(PyObject *self, PyObject *unused);
PyObject *waiter_cancelled(PyObject *self, PyObject *unused);
PyObject *waiter_get_loop(PyObject *self, PyObject *unused);
PyObject *waiter_get_blocking(PyObject *self, void *unused);
int waiter_set_blocking(PyObject *self, PyObject *value, void *unused);
PyObject *waiter_getattro(PyObject *self, PyObject *name);
int waiter_setattro(PyObject *self, PyObject *name, PyObject *value);

#endif
