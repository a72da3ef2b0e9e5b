/* Inside of np_channel: see blocking.h for what it does. */
#ifndef NP_CHANNEL_H
#define NP_CHANNEL_H

#include "blocking.h"
#include "frame.h"
#include "gate.h"
#include "handshake.h"

enum {
    NP_CHANNEL_SMALL = 8 << 10,     /* messages up to this need no memory of the host's */
    NP_CHANNEL_FIRST = 1 << 20,     /* a length is believed this far before bytes come */
    NP_CHANNEL_CHUNK = 64 << 10,    /* np_channel_take */
    NP_CHANNEL_STAGE = 32 << 10     /* small messages that go out together */
};

struct np_channel {
    np_gate gate;
    np_turn receiving, sending;     /* the gate's lock */
    np_wire wire;                   /* what a direction needs of it: with its turn.  Closed by the
                                       last one out of a gate that is shut, so it is there for who
                                       is inside, and for who holds the lock of one that is open */
    np_fork_watch fork;
    np_atomic_u64 max_message_size;
    np_atomic_u32 asked;            /* nothing was received since the last send */
    /* With the receiving turn. */
    np_incoming in;
    np_error end;                   /* code not NP_OK: nothing can be received any more */
    uint8_t *chunk;
    uint8_t small[NP_CHANNEL_SMALL];
    /* With the sending turn. */
    bool half_sent;
    uint8_t *stage;
};

/* Takes over the wire, in every case. */
np_code np_channel_new(const np_wire *wire, np_channel **out, np_error *error);

#endif
