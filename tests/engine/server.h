/* A host in C: a server of the engine that counts what it is told, and checks
 * with every event what the engine promises of all events.  server_end checks
 * that everything was given back, so every test ends with it. */
#ifndef SERVER_H
#define SERVER_H

#include "atomic.h"
#include "client.h"
#include "harness.h"
#include "npipes.h"
#include "secrets.h"
#include "sync.h"
#include "traffic.h"

typedef struct server server;

/* What the server knows of one connection. */
typedef struct peer {
    server *server;
    unsigned number;                /* in order of CONNECTED */
    np_connection *connection;      /* a reference until server_end */
    np_atomic_u64 user;             /* the test's */
    bool dialed;                    /* by server_dial */
    np_atomic_u32 connected, disconnected, ended, inside;
    np_atomic_u64 messages, bytes, sent, drained, errors;
    char trace[64];                 /* kinds of its first events; guarded by server->guard */
    size_t trace_size;
    np_error error, end;            /* the last ERROR, and DISCONNECTED; guarded as well */
} peer;

/* Something of the host's that the engine must give back exactly as often as
 * it was handed over. */
typedef struct cookie {
    struct cookie *next;
    np_atomic_u32 expected, sent, failed, read, dropped;
} cookie;

typedef void event_function(peer *p, np_event *e);     /* p NULL: of the endpoint */

struct server {
    /* May be changed until server_start. */
    np_config config;
    event_function *on_event;       /* inside deliver */
    bool take_messages;             /* keeps the buffers of messages */
    bool no_guest;                  /* the test itself runs, or dispatches */
    bool dials;                     /* it is a manager of clients: server_dial */
    keyring *keys;                  /* not NULL: connections begin with a handshake */
    void *user;

    np_endpoint *endpoint;
    char name[64];
    np_atomic_u32 ready, released, ended;
    np_atomic_u64 errors;           /* ERROR events of the endpoint */
    np_atomic_u32 threads_begun, threads_ended;
    np_atomic_u32 interrupt;        /* what np_host.interrupted answers */
    np_atomic_u32 leave;            /* deliver says false, once */
    np_atomic_u32 enters;
    np_atomic_u32 made, discarded, taken;       /* the host's buffers */
    bool locks;                     /* the host has a lock */
    np_mutex host_lock;
    np_mutex guard;                 /* guards all below, and the peers' errors */
    peer **peers;
    size_t peer_count, peer_capacity;
    cookie *cookies;
    struct token *tokens;
    np_error error;                 /* of the endpoint: the last */
    np_thread guest;
    bool guest_started;
    np_run_result guest_result;     /* the guest's */
};

/* A server as the test's mode wants it, not started. */
server *server_new(void);
void server_start(server *s);
/* A manager of clients, started. */
server *manager_start(void);
/* The same where it may fail, after which it can be tried again. */
np_code server_try_start(server *s, np_error *error);
/* Stops, waits, gives back and checks.  Clients need not have been closed. */
void server_end(server *s);
/* The same in parts: for tests that stop by themselves. */
void server_stop(server *s);
void server_release(server *s);
const char *server_address(const server *s);
/* For a thread of the test that calls run, dispatch or stop. */
void *server_token(server *s);
/* The connection that was reported as the number-th, waiting for it. */
peer *server_peer(server *s, size_t number);
size_t server_count(server *s);
np_error server_error(server *s);

/* A manager begins to connect; the peer's `user` is the test's.  timeout_ms < 0: no limit. */
peer *server_dial(server *s, const char *name, int64_t timeout_ms);
peer *server_try_dial(server *s, const char *name, int64_t timeout_ms, np_error *error);

/* What a host does around a call of its own: nothing inside an event. */
void server_lock(server *s);
void server_unlock(server *s);

cookie *server_cookie(server *s);
uint32_t cookie_given(const cookie *c);

/* A buffer of the host's own kind with a pattern in it, and its last use. */
np_buffer *server_buffer(server *s, size_t size, unsigned seed);
void server_drop(server *s, np_buffer *b);

np_code peer_write(peer *p, const void *data, size_t size, cookie *c);
np_code peer_write_many(peer *p, const np_message *messages, size_t count, cookie *c);
np_code peer_write_buffer(peer *p, np_buffer *b, cookie *c);
/* Such a buffer, which is dropped as soon as it is written. */
np_code peer_write_held(peer *p, size_t size, unsigned seed, cookie *c);
np_code peer_write_pattern(peer *p, size_t size, unsigned seed, cookie *c);
np_code peer_read(peer *p, cookie *c);
void peer_close(peer *p);
np_error peer_error(peer *p);
np_error peer_end(peer *p);         /* waits for DISCONNECTED */
/* The number of messages, when it has not changed for a while. */
uint64_t peer_settled_messages(peer *p);
void peer_trace(peer *p, char out[64]);
/* The events of one that was dialed, whose end is waited for. */
void peer_expect_trace(peer *p, const char *expected);

/* An event function: answers every message with itself. */
void server_echo(peer *p, np_event *e);

/* A client of this server; the test ends without one. */
client *server_client(server *s);
client *server_client_bytes(server *s);

#endif
