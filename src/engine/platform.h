/* The platform contract: all that the portable engine asks of an operating
 * system.  windows/ and linux/ hold the same files; each has platform_types.h
 * with the structs that are opaque here:
 *
 *   np_port      a completion port, polled by one thread at a time
 *   np_listener  the listening end of an address
 *   np_instance  one wait for one client
 *   np_dial      one attempt to reach a server
 *   np_link      one end of one connection
 *   np_signal    something a thread or a foreign event loop can wait on
 *
 * and the traits
 *
 *   NP_LINK_FRAMED       1: a byte stream, messages need headers; 0: the
 *                        system keeps message boundaries
 *   NP_LINK_HOLDS_WRITES 1: a pending write owns the bytes it was given until
 *                        it completes; 0: a pending write has taken what it
 *                        reported, and completes when it is worth trying again
 *   NP_INSTANCE_BOUND    1: the worker of a connection is chosen when its
 *                        instance is armed; 0: when the client is there
 *   NP_PORT_WATCHABLE    1: an event loop can watch a port
 *
 * Operations.  An operation is started once and completes once, as one
 * np_completion out of np_port_wait of its port, also after a cancel.  From
 * its start until then it belongs to the platform, and so does its buffer.
 */
#ifndef NP_PLATFORM_H
#define NP_PLATFORM_H

#include "blocking.h"
#include "npipes.h"

typedef enum np_operation_kind {
    NP_OP_ACCEPT,
    NP_OP_CONNECT,
    NP_OP_READ,
    NP_OP_WRITE
} np_operation_kind;

#include "platform_types.h"     /* np_operation, np_port, np_listener, ... */

typedef struct np_completion {
    np_operation *operation;
    np_code code;           /* NP_OK, or why it failed (NP_E_EOF: the peer closed) */
    int os;
    size_t bytes;
    const uint8_t *data;    /* read: what came; valid until the batch ends */
    uint64_t left;          /* read: bytes of this message still to come, where known */
} np_completion;

/* Memory that reads of one batch share. */
typedef struct np_arena {
    uint8_t *data;
    size_t size, used;
} np_arena;

/* ---- port.c ------------------------------------------------------------ */

np_code np_port_open(np_port *port, np_error *error);
/* No operation may be outstanding. */
void np_port_close(np_port *port);

/* Waits for completions: at most max of them, at most timeout_ns (0: only
 * looks; negative: no limit).  *count is 0 when the time is up, when np_port_wake
 * was called or a signal arrived.  Polling thread only. */
void np_port_wait(np_port *port, np_arena *arena, np_completion *out, size_t max,
                  int64_t timeout_ns, size_t *count);
/* Ends the current wait, or the next one.  Any thread. */
void np_port_wake(np_port *port);
/* NP_PORT_WATCHABLE: a descriptor that is readable while a wait would return
 * something. */
intptr_t np_port_waitable(const np_port *port);

/* ---- listen.c ---------------------------------------------------------- */

/* Claims the address for one server and makes it reachable, protected as
 * config says.  `address` comes from np_address. */
np_code np_listener_open(np_listener *listener, const np_config *config, const char *address,
                         np_error *error);
/* Lets clients that connect complete on this port as well. */
np_code np_listener_attach(np_listener *listener, np_port *port, np_error *error);
/* Begins to wait for one client.  instance->operation completes on instance's
 * port (bound) or on any attached port with instance->link filled in.  The
 * engine's endpoint lock is held. */
np_code np_listener_arm(np_listener *listener, np_instance *instance, np_port *port,
                        np_error *error);
/* Makes a failed accept's completion not come back at once: until the next arm
 * nothing is accepted. */
void np_listener_pause(np_listener *listener);
void np_listener_resume(np_listener *listener);
/* Cancels every armed instance: each completes with NP_E_CANCELED on `port`
 * (unbound) or its own (bound).  The endpoint lock is held. */
void np_listener_cancel(np_listener *listener, np_port *port);
/* Withdraws the address.  Afterwards nobody finds the server.  Armed instances
 * must have been cancelled; their completions may still be under way. */
void np_listener_close(np_listener *listener);
/* In a child of fork: closes descriptors, leaves the address alone. */
void np_listener_abandon(np_listener *listener);

/* ---- dial.c ------------------------------------------------------------ */

void np_dial_init(np_dial *dial, void *owner);
/* Begins one attempt to reach the server of `address`, which comes from
 * np_address and lives until the dial has completed: on this port, as
 * NP_OP_CONNECT, with dial->link filled in, or with why not:
 *
 *   NP_E_NOT_FOUND   nobody serves the address
 *   NP_E_BUSY        there is a server, but no free instance
 *   NP_E_BROKEN      the server closed while this client connected
 *   NP_E_ACCESS      the system does not let this user in
 *   NP_E_OWNER       the server is not one whom config, or the kind of the
 *                    address, lets this client talk to; dial->value: its uid
 *   NP_E_CANCELED    np_dial_cancel was faster
 *
 * Never blocks.  Where the system can wait for a free instance it does, on a
 * thread that is not the engine's, for at most wait_ns.  A dial may be started
 * again when it has completed.  Polling thread of the port, endpoint's lock held. */
void np_dial_start(np_dial *dial, np_port *port, const np_config *config, const char *address,
                   int64_t wait_ns);
/* Makes it complete soon, whatever the server does.  Polling thread. */
void np_dial_cancel(np_dial *dial);
/* In a child of fork: closes descriptors. */
void np_dial_abandon(np_dial *dial);

/* ---- link.c ------------------------------------------------------------ */

/* No link: np_link_abandon and np_link_close do nothing with it. */
void np_link_none(np_link *link);
/* Joins an accepted or dialed link to its port.  Polling thread of that port. */
np_code np_link_attach(np_link *link, np_port *port, const np_config *config, np_error *error);
/* Reads once: into buffer, or, where that is NULL, into memory of the
 * platform's.  Always pends.  Polling thread only; one read at a time. */
void np_link_read(np_link *link, np_operation *op, uint8_t *buffer, size_t capacity);

/* Writes the slices (on a link that keeps boundaries: one message, one slice).
 * NP_OK: *taken bytes went out.  NP_PENDING: *taken did, and op will complete;
 * see NP_LINK_HOLDS_WRITES.  Anything else: it failed, op is not outstanding.
 * The connection's lock is held; one write at a time. */
np_code np_link_write(np_link *link, np_operation *op, const np_slice *slices, size_t count,
                      size_t *taken, int *os);
/* Makes every outstanding operation complete soon.  Polling thread,
 * connection's lock held. */
void np_link_cancel(np_link *link);
/* After a failed write: what the peer sent can still be read, then the end. */
void np_link_end_writes(np_link *link);
/* No operation may be outstanding.  Polling thread, connection's lock held. */
void np_link_close(np_link *link);
/* Instead of close, when the peer is gone: disconnects and arms `instance`
 * with the same system object.  False: not possible, close it. */
bool np_link_recycle(np_link *link, np_listener *listener, np_instance *instance, np_port *port);
void np_link_abandon(np_link *link);
intptr_t np_link_handle(const np_link *link);

/* ---- security.c -------------------------------------------------------- */

/* Whether `access` lets this peer in; error->value is its uid where not. */
np_code np_link_check_peer(const np_link *link, const np_config *config, const char *address,
                           np_error *error);
/* What is known of the peer without asking anybody.  The connection's lock is
 * held. */
void np_link_peer(const np_link *link, np_peer *out);
/* Adds what has to be looked up, which may take time.  Any thread. */
void np_peer_look_up(np_peer *peer);

/* ---- signal.c ---------------------------------------------------------- */

np_code np_signal_open(np_signal *s, np_error *error);
void np_signal_close(np_signal *s);
void np_signal_set(np_signal *s);
void np_signal_clear(np_signal *s);
/* 1: set; 0: the time is up; -1: a system signal (Linux) ended the wait. */
int np_signal_wait(np_signal *s, int64_t timeout_ns);
intptr_t np_signal_waitable(const np_signal *s);

/* ---- error.c ----------------------------------------------------------- */

/* What an error of the system means for a pipe; NP_E_SYSTEM for most. */
np_code np_code_from_os(int os);

#endif
