/* The platform contract of the blocking side: connections and listeners that a
 * thread waits on itself, without a port and without workers.  windows/ and
 * linux/ hold the same files; each has wire_types.h with the structs that are
 * opaque here:
 *
 *   np_wire            one end of one connection
 *   np_wire_listener   the listening end of an address
 *
 * and the trait
 *
 *   NP_WIRE_TRIES      see np_channel_tries
 *
 * NP_LINK_FRAMED of platform.h holds here too.  Nothing is outstanding when a
 * function has returned, except a send that was interrupted. */
#ifndef NP_WIRE_H
#define NP_WIRE_H

#include "platform.h"
#include "sync.h"

/* What is left of the time: negative: no limit. */
static inline int64_t np_wait_left(const np_wait *wait) {
    if (wait->deadline == NP_FOREVER)
        return -1;
    int64_t now = np_now();
    return wait->deadline > now ? wait->deadline - now : 0;
}

enum { NP_WIRES_WAITED = 41 };      /* by np_wire_listener_wait at once */

#include "wire_types.h"

/* A wait ends with NP_OK, NP_E_TIMEOUT, NP_E_INTERRUPTED (a system signal, or
 * wait->interrupt) or NP_E_CLOSED (wait->wake).  Errors of the system fill in
 * *os. */

/* ---- wire.c ------------------------------------------------------------ */

/* One attempt to connect.  NP_E_NOT_FOUND: nobody serves the address now;
 * NP_E_BUSY: somebody does, and has no room now; NP_E_ACCESS: this user may not;
 * NP_E_OWNER: its server is not one whom owner_only, or the kind of the address,
 * allows: *owner is its uid, where there are such. */
np_code np_wire_dial(np_wire *wire, const char *address, bool owner_only, uint64_t *owner, int *os);
/* Between attempts: waits for at most pause_ns. */
np_code np_wire_dial_pause(const char *address, np_code why, int64_t pause_ns, const np_wait *wait);
/* Both ends of a connection without an address. */
np_code np_wire_pair(np_wire *a, np_wire *b, int *os);
/* Takes over a descriptor or handle that another process opened. */
np_code np_wire_adopt(np_wire *wire, intptr_t handle, int *os);
/* No call may be inside.  Does nothing the second time. */
void np_wire_close(np_wire *wire);
intptr_t np_wire_handle(const np_wire *wire);

/* Waits until some bytes are there and takes at most size of them.  Framed: of
 * the stream.  Otherwise: of one message, and *left is not 0 when it has more.
 * NP_E_EOF: the peer closed.  One thread at a time. */
np_code np_wire_receive(np_wire *wire, uint8_t *to, size_t size, const np_wait *wait, size_t *got,
                        uint64_t *left, int *os);
/* The same without waiting: NP_E_TIMEOUT when nothing is there yet.  Where the
 * system needs `to` until then, it is the wire's up to the call that gets more,
 * with the same arguments, or to np_wire_close; the wire must not move. */
np_code np_wire_receive_some(np_wire *wire, uint8_t *to, size_t size, size_t *got, uint64_t *left,
                             int *os);
/* Takes whole messages that are there and fit, without waiting, into `chunk`:
 * at most max of them.  *count 0: none is there, or the first does not fit. */
np_code np_wire_take(np_wire *wire, uint8_t *chunk, size_t capacity, uint64_t limit, np_slice *out,
                     size_t max, size_t *count, int *os);
/* Waits until a receive would not. */
np_code np_wire_poll(np_wire *wire, const np_wait *wait, int *os);
/* Whether a poll, or somebody else's, had to take an empty message out of the
 * system to see it: the next receive gets it. */
bool np_wire_holds(const np_wire *wire);
void np_wire_set_holds(np_wire *wire, bool holds);
/* Waits until some bytes are taken.  Not framed: one slice is one message, and
 * is taken whole.  After NP_E_INTERRUPTED call it again with the same, or
 * np_wire_send_stop.  One thread at a time. */
np_code np_wire_send(np_wire *wire, const np_slice *slices, size_t count, const np_wait *wait,
                     size_t *taken, int *os);
/* True: the interrupted send was taken in the end. */
bool np_wire_send_stop(np_wire *wire);

/* ---- security.c -------------------------------------------------------- */

/* What is known of the peer without asking anybody. */
void np_wire_peer(const np_wire *wire, np_peer *out);

/* ---- wire_listen.c ----------------------------------------------------- */

/* Claims the address as np_listener_open does. */
np_code np_wire_listen(np_wire_listener *listener, const np_config *config, const char *address,
                       np_error *error);
/* Waits for a client that config->access lets in.  One thread at a time.  With
 * NP_AT_ONCE it only looks. */
np_code np_wire_accept(np_wire_listener *listener, const np_wait *wait, np_wire *out, int *os);
/* Waits until np_wire_accept, if clients, or np_wire_receive_some of one of the
 * wires may find something. */
np_code np_wire_listener_wait(np_wire_listener *listener, bool clients, np_wire *const *wires,
                              size_t count, const np_wait *wait, int *os);
/* Withdraws the address.  No call may be inside.  Does nothing the second time. */
void np_wire_unlisten(np_wire_listener *listener);
/* In a child of fork: it may accept as well, but the address is the parent's. */
void np_wire_listener_forked(np_wire_listener *listener);
intptr_t np_wire_listener_handle(const np_wire_listener *listener);

#endif
