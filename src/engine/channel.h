/* A channel: one end of one connection, used by blocking calls.  It has no
 * thread of its own; whoever calls waits in the system.
 *
 * A call that receives or sends is made of steps between begin and end.  A step
 * that can't go on says why, and everything that came so far stays in the
 * channel: after NP_E_TIMEOUT another begin goes on inside the message,
 * after NP_E_INTERRUPTED the host looks for its signals and steps again, after
 * NP_WANTED it gives memory and steps again.  One thread receives at a time and
 * one sends; others wait for their turn.  None of the functions holds a lock
 * while it waits for the peer.
 *
 * Any thread may close.  Whoever is inside gets NP_E_CLOSED, and the last one
 * out closes the descriptor. */
#ifndef NP_CHANNEL_H
#define NP_CHANNEL_H

#include "frame.h"
#include "gate.h"

enum {
    NP_CHANNEL_SMALL = 8 << 10,     /* messages up to this need no memory of the host's */
    NP_CHANNEL_FIRST = 1 << 20,     /* a length is believed this far before bytes come */
    NP_CHANNEL_CHUNK = 64 << 10,    /* np_channel_take */
    NP_CHANNEL_STAGE = 32 << 10     /* small messages that go out together */
};

/* The message that is arriving, or has arrived. */
typedef struct np_incoming {
    uint8_t *data;
    size_t capacity, arrived;
    uint64_t expected;              /* its whole length, once it is known */
    bool known;
    void *owner;                    /* the host's, of data; NULL: the channel's own memory */
    uint8_t header[NP_HEADER_MAX];
    unsigned header_size;
} np_incoming;

typedef struct np_channel {
    np_gate gate;
    np_turn receiving, sending;
    np_wire wire;
    np_fork_watch fork;
    uint64_t max_message_size;
    np_atomic_u32 asked;            /* nothing was received since the last send */
    /* With the receiving turn. */
    np_incoming in;
    np_error end;                   /* code not NP_OK: nothing can be received any more */
    uint8_t *chunk;
    uint8_t small[NP_CHANNEL_SMALL];
    /* With the sending turn. */
    bool half_sent;
    uint8_t *stage;
} np_channel;

/* ---- life -------------------------------------------------------------- */

/* State of a connect, between its steps. */
typedef struct np_channel_dial {
    const char *address;            /* from np_address */
    int64_t pause_ns;
    np_code last;                   /* why the last attempt failed */
} np_channel_dial;

/* Connects, trying again until wait->deadline while nobody serves the address
 * or all are busy.  NP_E_TIMEOUT: error->value has NP_E_NOT_FOUND or NP_E_BUSY.
 * With NP_AT_ONCE these come themselves. */
np_code np_channel_connect(np_channel_dial *dial, const np_wait *wait, np_channel **out, np_error *error);
np_code np_channel_pair(np_channel **a, np_channel **b, np_error *error);
/* Takes over the wire, in every case. */
np_code np_channel_new(const np_wire *wire, np_channel **out, np_error *error);
/* True: closed by this call, or somebody inside will. */
bool np_channel_close(np_channel *c);
/* Closes and frees.  Nobody may be inside; in.owner is the host's to release
 * first. */
void np_channel_free(np_channel *c);

/* ---- receiving --------------------------------------------------------- */

np_code np_channel_receive_begin(np_channel *c, const np_wait *wait, np_error *error);
void np_channel_receive_end(np_channel *c);
/* Goes on until the message is in c->in.  A message longer than limit or
 * max_message_size: NP_E_TOO_LARGE, and it stays where it is. */
np_code np_channel_receive(np_channel *c, np_wait *wait, uint64_t limit, np_error *error);
/* Whether trying at once is hardly worth a system call: an answer is awaited. */
bool np_channel_expects_wait(const np_channel *c);
/* After NP_WANTED: how much memory would be good. */
size_t np_channel_wanted(const np_channel *c);
/* Gives memory.  The host's own (c->in.owner) that was enlarged has the bytes
 * that came already; what came into the channel's is copied. */
void np_channel_room(np_channel *c, void *owner, uint8_t *data, size_t capacity);
/* The message was taken. */
void np_channel_received(np_channel *c);
/* Messages that are there whole and small; *count 0: none, or not at the front.
 * They are in memory of the channel, until the end. */
np_code np_channel_take(np_channel *c, np_slice *out, size_t max, size_t *count, np_error *error);
/* Whether something waits in the channel itself, which the system can't tell of. */
bool np_channel_holds(const np_channel *c);
/* Waits until a receive would find something: a message, a part, the end. */
np_code np_channel_poll(np_channel *c, np_wait *wait, np_error *error);

/* ---- sending ----------------------------------------------------------- */

/* A send between its steps. */
typedef struct np_outgoing {
    const np_slice *messages;
    size_t count, next;
    size_t staged, sent;            /* bytes in the stage */
    np_slice rest;                  /* of a message that is not staged */
    bool begun, done, waiting;
} np_outgoing;

np_code np_channel_send_begin(np_channel *c, const np_wait *wait, np_error *error);
/* Goes on until all of them went out. */
np_code np_channel_send(np_channel *c, np_outgoing *out, np_wait *wait, np_error *error);
/* A send that did not get to its end may have left a part of a message. */
void np_channel_send_end(np_channel *c, np_outgoing *out);

#endif
