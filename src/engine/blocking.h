/* npipes: message-based IPC on one machine.  The blocking side of the engine's
 * public C interface: connections and listeners whose calls wait in the thread
 * that makes them.
 *
 * A channel is one end of one connection, a door a listening end.  Neither has a
 * thread of its own.  Every function may be called from any thread, but nobody
 * may be inside one that frees.  No lock is held while somebody waits.
 *
 * A call that receives or sends is made of steps between begin and end.  A step
 * that can't go on says why, and everything that came so far stays in the
 * channel: after NP_E_TIMEOUT another begin goes on inside the message, after
 * NP_E_INTERRUPTED the host looks for its signals and steps again, after
 * NP_WANTED it gives memory and steps again.  One thread receives at a time and
 * one sends; others wait for their turn.
 *
 * close never waits: whoever is inside gets NP_E_CLOSED, and the last one out
 * closes the descriptor. */
#ifndef NP_BLOCKING_H
#define NP_BLOCKING_H

#include "npipes.h"

typedef struct np_channel np_channel;
typedef struct np_door np_door;
struct np_handshake;

/* ---- waiting ----------------------------------------------------------- */

#define NP_FOREVER INT64_MAX
#define NP_AT_ONCE INT64_MIN        /* only where np_channel_tries; nothing interrupts it */
/* A system signal that comes just before a wait begins does not end it, so the host
 * is asked this often at least. */
#define NP_ASK_NS INT64_C(1000000000)

struct np_signal;

/* How long a call may wait, and what else ends it. */
typedef struct np_wait {
    int64_t deadline;               /* of np_clock(), or one of the above */
    intptr_t interrupt;             /* not 0: the host looks for signals.  Windows: the event that
                                     * they set.  Linux: any number; waits end once a second */
    const struct np_signal *wake;   /* the engine's */
} np_wait;

/* Whether looking with NP_AT_ONCE costs a system call that does not wait, and
 * nothing else. */
extern const bool np_channel_tries;

/* ---- channels: life ---------------------------------------------------- */

/* State of a connect, between its steps. */
typedef struct np_channel_dial {
    const char *address;            /* from np_address */
    bool owner_only;                /* the server must be this user's */
    int64_t pause_ns;
    np_code last;                   /* why the last attempt failed */
} np_channel_dial;

/* Connects, trying again until wait->deadline while nobody serves the address
 * or all are busy.  NP_E_TIMEOUT: error->value has NP_E_NOT_FOUND or NP_E_BUSY.
 * With NP_AT_ONCE, on any system, these come themselves. */
np_code np_channel_connect(np_channel_dial *dial, const np_wait *wait, np_channel **out,
                           np_error *error);
/* Waits before another attempt is made, for a reason of its own that the host has
 * put into dial->last.  NP_E_TIMEOUT: there is no time for one. */
np_code np_channel_pause(np_channel_dial *dial, const np_wait *wait);
/* The handshake of a channel that was just connected; `h` is its state between the
 * steps.  NP_E_INTERRUPTED: also when secrets could not do their part.
 * NP_E_TIMEOUT: error->value has NP_E_AUTH.  NP_E_EOF: the server left. */
np_code np_channel_greet(np_channel *c, struct np_handshake *h, const np_secrets *secrets,
                         const np_wait *wait, np_error *error);
/* Both ends of a connection without an address. */
np_code np_channel_pair(np_channel **a, np_channel **b, np_error *error);
/* Takes over a descriptor or handle that another process opened, if it is one. */
np_code np_channel_adopt(intptr_t handle, np_channel **out, np_error *error);
void np_channel_close(np_channel *c);
/* Closes and frees.  A message's owner is the host's to release first. */
void np_channel_free(np_channel *c);
bool np_channel_is_closed(np_channel *c);
enum { NP_NO_HANDLE = -1 };         /* of what is closed */
intptr_t np_channel_handle(np_channel *c);
/* Who the other end is.  May look the user's name up, which takes time.
 * NP_E_CLOSED: this end is closed. */
np_code np_channel_peer(np_channel *c, np_peer *out, np_error *error);
void np_channel_set_max_message_size(np_channel *c, uint64_t size);
uint64_t np_channel_max_message_size(const np_channel *c);

/* ---- receiving --------------------------------------------------------- */

enum { NP_HEADER_BYTES = 12 };

/* The message that is arriving, or has arrived. */
typedef struct np_incoming {
    uint8_t *data;
    size_t capacity, arrived;
    uint64_t expected;              /* its whole length, once it is known */
    bool known;
    void *owner;                    /* the host's, of data; NULL: the engine's memory or lent */
    uint8_t header[NP_HEADER_BYTES];
    unsigned header_size;
} np_incoming;

typedef struct np_slice {
    const uint8_t *data;
    size_t size;
} np_slice;

np_code np_channel_receive_begin(np_channel *c, const np_wait *wait, np_error *error);
void np_channel_receive_end(np_channel *c);
/* Goes on until the message is there.  One longer than limit or the channel's
 * maximum: NP_E_TOO_LARGE, and it stays where it is. */
np_code np_channel_receive(np_channel *c, np_wait *wait, uint64_t limit, np_error *error);
const np_incoming *np_channel_incoming(const np_channel *c);
/* Whether trying at once is hardly worth a system call: an answer is awaited. */
bool np_channel_expects_wait(const np_channel *c);
/* After NP_WANTED: how much memory would be good.  It grows with the bytes that
 * came, not with the length that was announced. */
size_t np_channel_wanted(const np_channel *c);
/* Gives memory.  The host's own (owner) that was enlarged has the bytes that came
 * already; what came into other memory is copied. */
void np_channel_room(np_channel *c, void *owner, uint8_t *data, size_t capacity);
/* The message, and its owner, were taken. */
void np_channel_received(np_channel *c);
/* The host has lost what came of the message: nothing can be received any more. */
void np_channel_lost(np_channel *c);
/* Messages that are there whole and small; *count 0: none, or not at the front.
 * They are in memory of the channel until the end.  *more: look again. */
np_code np_channel_take(np_channel *c, np_slice *out, size_t max, size_t *count, bool *more,
                        np_error *error);
/* Waits until a receive would find something: a message, a part, the end. */
np_code np_channel_poll(np_channel *c, np_wait *wait, np_error *error);
/* The next four are about what came so far.  While another thread receives, or
 * when the channel is closed, they say no, and change nothing. */
/* Whether something waits in the channel itself, which the system can't tell of. */
bool np_channel_holds(np_channel *c);
/* A message has come in part. */
bool np_channel_is_partial(np_channel *c);
/* Windows: a wait had to take an empty message out of the pipe to see it. */
bool np_channel_took_empty(np_channel *c);
void np_channel_set_took_empty(np_channel *c, bool took);

/* ---- sending ----------------------------------------------------------- */

/* A send between its steps.  The host fills in the first two. */
typedef struct np_outgoing {
    const np_slice *messages;
    size_t count;
    size_t next, staged, sent;
    np_slice rest;
    bool begun, done, waiting;
} np_outgoing;

np_code np_channel_send_begin(np_channel *c, const np_wait *wait, np_error *error);
/* Goes on until all of them went out. */
np_code np_channel_send(np_channel *c, np_outgoing *out, np_wait *wait, np_error *error);
/* After a send that was given up inside a message later ones get NP_E_HALF_SENT. */
void np_channel_send_end(np_channel *c, np_outgoing *out);

/* ---- doors ------------------------------------------------------------- */

/* Listens on an address (of np_address) for those whom config->access lets in. */
np_code np_door_open(const np_config *config, const char *address, np_door **out, np_error *error);
/* Waits for a client.  A wait that ends without one loses nobody.  With secrets
 * (NULL: none) it is one that has proved the key; the handshakes of all that have
 * come go on while a thread is in here, several at once.  NP_REFUSED: one did
 * not, and *error says why; NP_E_INTERRUPTED: also when secrets could not do
 * their part. */
np_code np_door_accept(np_door *door, const np_secrets *secrets, np_wait *wait, np_channel **out,
                       np_error *error);
/* Waits are ended, and the address is withdrawn when the last one has left. */
void np_door_close(np_door *door);
/* Closes and frees. */
void np_door_free(np_door *door);
bool np_door_is_closed(np_door *door);
/* Linux: a descriptor that is readable while a client waits; else 0.  NP_NO_HANDLE
 * when it is closed. */
intptr_t np_door_handle(np_door *door);

#endif
