/* A host that checks with every event what the engine promises of all events,
 * and does inside them, and beside them, what the script says. */
#ifndef HOST_H
#define HOST_H

#include "fake.h"

enum { CONNS_MAX = 64 };

/* What the host knows of one connection. */
typedef struct conn {
    np_connection *connection;      /* a reference */
    bool dialed;
    unsigned connected, disconnected, ended;
    fake_peer *peer;                /* of this life */
    bool closed;                    /* the host closed it, or stopped */
    unsigned last_sent;             /* number of the token */
    bool lossy;                     /* a message was lost to a lack of memory */
} conn;

typedef struct host {
    np_endpoint *endpoint;
    conn conns[CONNS_MAX];
    unsigned conn_count;
    token *tokens;
    unsigned token_count;
    bool continuous, want_sent, started, stopped, manager;
    unsigned inside;                /* between enter and leave */
    bool busy;                      /* another thread is, than the one that acts */
    unsigned ready, released, depth;
    unsigned made, discarded;       /* buffers */
    uint64_t messages, bytes, errors;
    bool lacked_memory;             /* for a message */
    uint32_t failed_before;         /* of the engine's allocations, in earlier runs */
} host;

extern host the_host;

np_host host_functions(void);
conn *host_conn(np_connection *c, bool dialed);
token *host_token(void);
np_buffer *host_buffer(const uint8_t *data, size_t size);
void host_drop(np_buffer *b);
/* An allocation of this run has failed, of the host's or of the engine's. */
bool host_lacked_memory(void);
/* At the end: everything was given back as often as it was due. */
void host_check_end(const np_stats *stats);

/* actions.c: something that a host does, from an event of `at` (which may be
 * NULL) or from another thread. */
void host_acts(conn *at);
/* What is known to wait on each connection is what the engine says. */
void host_check_pending(void);

#endif
