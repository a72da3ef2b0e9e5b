/* npipes: message-based IPC on one machine.  The engine's public C interface.
 *
 * An endpoint is one run of a server, which listens on an address, or of a
 * manager of clients, which connects to any number of them.  It owns worker
 * threads and every connection, and reports what happens as events to its host
 * (a language binding, or a C program).  It is started once and stopped once; a
 * server that starts again makes a new endpoint.
 *
 * Threads.  Every function may be called from any thread, from inside an
 * event as well, unless its comment says otherwise.  None of them blocks on a
 * peer.  Events of one connection never overlap and come in order; events of
 * different connections may come at once from different workers.
 *
 * Ownership.  Endpoints and connections are counted references.  Bytes handed
 * to the engine are copied, or held as an np_buffer until the system has taken
 * them.  A cookie is the host's: the engine gives each one back in exactly one
 * event.
 */
#ifndef NP_NPIPES_H
#define NP_NPIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct np_endpoint np_endpoint;
typedef struct np_connection np_connection;
typedef struct np_buffer np_buffer;

/* ---- errors ------------------------------------------------------------ */

typedef enum np_code {
    NP_OK = 0,
    NP_PENDING,         /* not an error: an operation was started */
    NP_E_SYSTEM,        /* np_error.os says which */
    NP_E_MEMORY,
    NP_E_INVALID,       /* an argument; np_error.value is the offending value */
    NP_E_NAME_EMPTY,
    NP_E_NAME_CHAR,     /* a character a name can't have */
    NP_E_NAME_LONG,     /* value bytes, limit at most */
    NP_E_DIRECTORY,     /* the directory of the sockets can't be trusted */
    NP_E_EXISTS,        /* a live server, or a foreign file, has the address */
    NP_E_ACCESS,        /* the peer is not one of those `access` lets in; value: its uid; or
                           the system does not let this user connect */
    NP_E_CLOSED,        /* used after close, or before it was open */
    NP_E_FULL,          /* a write of value bytes beyond max_pending_bytes */
    NP_E_TOO_LARGE,     /* a message of value bytes beyond limit */
    NP_E_PROTOCOL,      /* a length that can't be: value */
    NP_E_RESET,         /* the peer went away inside a message: value of limit bytes came */
    NP_E_EOF,           /* the peer closed between messages: orderly */
    NP_E_BROKEN,        /* the peer went away with value bytes not handed over */
    NP_E_CANCELED,      /* closed or stopped here before it could be done */
    NP_E_TIMEOUT,       /* of a read: value bytes of a message had come, and the next NP_PROGRESS,
                           or its end, did not within limit nanoseconds */
    NP_E_STATE,         /* not now: not started, or already inside run */
    NP_E_FORKED,        /* a child of fork can't use its parent's endpoint */
    NP_E_NOT_FOUND,     /* nobody serves the address; limit: milliseconds it was waited for */
    NP_E_BUSY,          /* somebody does, and has no room for another client; limit likewise */
    NP_E_OWNER,         /* the server is another user's; value: its uid (Linux) */
    NP_E_STREAM,        /* Windows: the server's pipe is of byte type, without messages */
    NP_E_HALF_SENT,     /* a send ended inside a message: no more can be sent */
    NP_E_GROUP,         /* access_group can't be: value: an np_group_reason */
    NP_E_AUTH,          /* the peer did not prove the key: value: an np_auth_reason */
    NP_E_INTERRUPTED,   /* not an error: the host may look for signals, and go on */
    NP_WANTED,          /* not an error: np_channel_room is due */
    NP_REFUSED          /* not an error of the call: a client was, and it can go on */
} np_code;

typedef enum np_group_reason {
    NP_GROUP_UNKNOWN = 1,
    NP_GROUP_PLACE,     /* the address is one that its members can't reach */
    NP_GROUP_OTHERS     /* this user is not in it */
} np_group_reason;

typedef enum np_auth_reason {
    NP_AUTH_WRONG = 1,  /* its answer is not what the key gives */
    NP_AUTH_REJECTED,   /* it said that ours is not */
    NP_AUTH_FORM,       /* what it sent belongs to no handshake */
    NP_AUTH_DIGEST,     /* it wants a digest that is not there; limit 1: MD5 */
    NP_AUTH_MIRROR,     /* it had us answer a challenge of our own side */
    NP_AUTH_SLOW,       /* not within limit seconds */
    NP_AUTH_LEFT,       /* it left before the end */
    NP_AUTH_CROWDED     /* more than limit at once; it was in it for longest */
} np_auth_reason;

typedef enum np_activity {
    NP_DOING_NOTHING = 0,
    NP_DOING_START,
    NP_DOING_ACCEPT,
    NP_DOING_READ,
    NP_DOING_WRITE,
    NP_DOING_BROADCAST,
    NP_DOING_CONNECT,
    NP_DOING_SEND,      /* by a channel */
    NP_DOING_RECEIVE
} np_activity;

typedef struct np_error {
    np_code code;
    np_activity activity;
    int os;             /* errno, or GetLastError() */
    uint64_t value;     /* what was asked or came; see np_code */
    uint64_t limit;
} np_error;

/* ---- configuration ----------------------------------------------------- */

typedef enum np_access_kind {
    NP_ACCESS_USER = 0,     /* this user (and SYSTEM; and root) */
    NP_ACCESS_EVERYONE,
    NP_ACCESS_SDDL,         /* Windows: access_sddl */
    NP_ACCESS_MODE,         /* Linux: access_mode */
    NP_ACCESS_GROUP         /* Linux: access_group, and this user */
} np_access_kind;

/* What timers go by, for tests that have no time to wait.  Both functions are
 * called by any worker, and must outlive the endpoint. */
typedef struct np_time_source {
    int64_t (*now)(void *user);         /* nanoseconds, never less than before */
    uint32_t (*random)(void *user);     /* for the jitter of reconnects */
    void *user;
} np_time_source;

typedef struct np_config {
    unsigned threads;               /* workers, at least 1 */
    bool marshalled;                /* events only inside np_endpoint_run/dispatch */
    bool driven;                    /* marshalled, and without a thread of the engine's: the
                                       host calls np_endpoint_drive.  Where
                                       np_endpoint_can_be_driven only */
    bool keep_ended;                /* a peer that sends no more is NP_EVENT_END, and can still
                                       be written to until np_connection_close */
    bool byte_mode;                 /* a stream without message boundaries */
    bool continuous_read;
    bool want_sent;                 /* NP_EVENT_SENT also for writes without a cookie */
    size_t message_buffer_size;     /* first read size, bytes */
    size_t max_instances;           /* connections at once; 0: unbounded */
    size_t listeners;               /* instances kept waiting */
    uint64_t max_message_size;      /* bytes one received message may have */
    int64_t message_timeout_ns;     /* for each NP_PROGRESS bytes of a message; 0: no limit */
    uint64_t write_high_water;      /* bytes; 0: never pause reading (clients never do) */
    uint64_t max_pending_bytes;     /* bytes that may wait to go out per connection */
    size_t kernel_buffer_size;      /* bytes; 0: the system's */
    uint32_t spin_us;               /* poll this long before sleeping */
    size_t max_handshakes;          /* clients at once that have yet to prove the key */
    np_access_kind access;
    unsigned access_mode;
    const char *access_sddl;        /* UTF-8; read by np_endpoint_listen only */
    const char *access_group;       /* a name or a number; likewise */
    /* Of connections made by np_endpoint_connect: */
    bool owner_only;                /* the server must be this user's */
    bool reconnect;                 /* connect again until closed or stopped */
    int64_t reconnect_min_ns, reconnect_max_ns;     /* bounds of the time between attempts */
    const np_time_source *time;     /* NULL: the system's */
} np_config;

/* Fills in the defaults. */
void np_config_init(np_config *config);

/* ---- buffers ----------------------------------------------------------- */

/* Memory of a message with one owner or several.  The host makes its own kind
 * (memory it must release itself, under its own lock) by filling in ops and
 * owner; the engine then returns the last reference with np_host.discard. */
typedef struct np_buffer_ops {
    /* Makes room for capacity bytes, keeping the first `size`.  May move data. */
    bool (*grow)(np_buffer *buffer, size_t capacity);
} np_buffer_ops;

np_buffer *np_buffer_new(size_t capacity);
/* A buffer around the host's memory; NULL when there is no memory. */
np_buffer *np_buffer_wrap(const void *data, size_t size, const np_buffer_ops *ops, void *owner);
uint8_t *np_buffer_data(np_buffer *buffer);
size_t np_buffer_size(const np_buffer *buffer);
/* The host moved its memory; owner NULL: it is gone. */
void np_buffer_set(np_buffer *buffer, void *owner, void *data, size_t capacity);
void *np_buffer_owner(const np_buffer *buffer);     /* NULL: the engine's own memory */
void np_buffer_retain(np_buffer *buffer);
/* Drops a reference.  True: it was the last and the memory is the host's to
 * release, after which np_buffer_free ends the handle. */
bool np_buffer_drop(np_buffer *buffer);
/* Frees the handle of a host buffer whose owner was taken out of it. */
void np_buffer_free(np_buffer *buffer);

/* ---- keys -------------------------------------------------------------- */

enum { NP_MAC_MAX = 64 };

/* What a handshake takes, so that both ends prove that they have the host's key:
 * the engine has no cryptography of its own. */
typedef struct np_secrets {
    void *user;
    /* False: it could not now, and is to be asked again. */
    bool (*random)(void *user, uint8_t *out, size_t size);
    /* HMAC of a message: its size; 0: this digest is not there; -1: like false. */
    int (*mac)(void *user, const char *digest, const uint8_t *message, size_t size,
               uint8_t out[NP_MAC_MAX]);
    /* In a time that does not tell where they differ. */
    bool (*equal)(void *user, const uint8_t *a, const uint8_t *b, size_t size);
} np_secrets;

/* ---- events ------------------------------------------------------------ */

typedef enum np_event_kind {
    NP_EVENT_READY = 0,     /* once: every worker runs and the first instance listens */
    NP_EVENT_CONNECTED,     /* a connection that is made again has it again */
    NP_EVENT_MESSAGE,
    NP_EVENT_SENT,          /* an accepted write was handed over whole */
    NP_EVENT_DRAINED,
    NP_EVENT_END,           /* with keep_ended: the last message has come */
    NP_EVENT_ERROR,
    NP_EVENT_DISCONNECTED,  /* the last event of a connection, or until it is made again */
    NP_EVENT_ENDED          /* the last of one of np_endpoint_connect's, which may never have
                               been CONNECTED: its user pointer is not used any more */
} np_event_kind;

typedef struct np_event {
    np_event_kind kind;
    np_connection *connection;      /* NULL: of the endpoint */
    void *cookie;                   /* MESSAGE: of its read; SENT, ERROR: of its write or read */
    union {
        struct {
            const uint8_t *data;    /* valid until deliver returns */
            size_t size;
            np_buffer *buffer;      /* not NULL: owns data; the host may take it and set NULL */
        } message;
        np_error error;             /* ERROR, and DISCONNECTED (code NP_OK: orderly) */
    } u;
} np_event;

/* What the engine asks of its host.  deliver, buffer_new, discard and those of
 * secrets are only called between enter and leave, on a thread that np_host.thread_begin or a
 * guest (np_endpoint_run, _dispatch, _stop) introduced as `thread`. */
typedef struct np_host {
    void *user;
    void *(*thread_begin)(void *user);
    void (*thread_end)(void *user, void *thread);
    /* Takes the host's lock.  True when that took long: the engine then looks
     * for more completions before it delivers. */
    bool (*enter)(void *user, void *thread);
    void (*leave)(void *user, void *thread);
    /* False ends a guest's call with NP_RUN_INTERRUPTED, after this batch. */
    bool (*deliver)(void *user, void *thread, np_event *events, size_t count);
    /* A buffer for `size` bytes of a large message, or NULL. */
    np_buffer *(*buffer_new)(void *user, size_t size);
    void (*discard)(void *user, np_buffer *buffer);
    /* A guest's wait ended without an event (a signal, a wake).  False ends
     * the guest's call.  Called outside the host's lock. */
    bool (*interrupted)(void *user, void *thread);
    /* Events begin to wait for np_endpoint_dispatch or _drive; optional, and in
     * place of np_endpoint_waitable.  On a worker, outside the host's lock. */
    void (*waiting)(void *user, void *thread);
    /* mac NULL: connections begin without a handshake. */
    np_secrets secrets;
    /* The last call: nothing of the endpoint is left. */
    void (*released)(void *user);
} np_host;

/* ---- endpoint ---------------------------------------------------------- */

/* Makes an endpoint with one reference for the caller.  Copies config and host. */
np_code np_endpoint_new(const np_config *config, const np_host *host, np_endpoint **out,
                        np_error *error);
void np_endpoint_retain(np_endpoint *endpoint);
/* The last reference of an endpoint that runs must not be dropped: stop first. */
void np_endpoint_release(np_endpoint *endpoint);

/* Listens on `name` (a leaf name or an address) and starts the workers.  Once. */
np_code np_endpoint_listen(np_endpoint *endpoint, const char *name, np_error *error);

/* Starts the workers of an endpoint that only connects.  Once. */
np_code np_endpoint_open(np_endpoint *endpoint, np_error *error);

/* Begins to connect to `name` and returns at once.  What comes of it are events:
 * CONNECTED, or an ERROR; then, when all is over, ENDED.  While nobody serves
 * the address, or its server has no free instance, it waits at most timeout_ns
 * (negative: no limit; 0: one attempt).  With reconnect the same connection is
 * made again whenever it ends, until np_connection_close or the stop; a failure
 * is reported once for each time that it is not connected.  *out has a reference
 * for the caller and `user` as its user pointer before the first event.
 * NP_E_STATE: the endpoint does not run. */
np_code np_endpoint_connect(np_endpoint *endpoint, const char *name, int64_t timeout_ns, void *user,
                            np_connection **out, np_error *error);

/* No new connections, and nobody finds the address any more; those that there
 * are go on. */
void np_endpoint_stop_listening(np_endpoint *endpoint);
/* Begins to stop: no new connections, cancel, drain.  Never blocks. */
void np_endpoint_stop_begin(np_endpoint *endpoint);
/* Waits until every operation has ended, every event is delivered and every
 * worker has ended; with marshalled events it delivers them itself when no
 * other thread does.  From inside an event of the same endpoint it returns
 * false at once, and the end comes after the event.  timeout_ns < 0: no limit;
 * false also when the time is up. */
bool np_endpoint_stop_wait(np_endpoint *endpoint, void *thread, int64_t timeout_ns);

typedef enum np_run_result {
    NP_RUN_QUIT,
    NP_RUN_TIMEOUT,
    NP_RUN_STOPPED,
    NP_RUN_INTERRUPTED,     /* np_host.interrupted said so */
    NP_RUN_BUSY             /* another thread, or this one, is inside already */
} np_run_result;

/* Runs the message loop in this thread until quit, stop or timeout. */
np_run_result np_endpoint_run(np_endpoint *endpoint, void *thread, int64_t timeout_ns);
/* Delivers what waits; with a timeout waits for something to deliver.  The
 * number of events, or -1 when another thread is inside. */
int64_t np_endpoint_dispatch(np_endpoint *endpoint, void *thread, int64_t timeout_ns);
/* Delivers what there is without waiting, for an event loop that calls it
 * whenever np_endpoint_waitable is readable (driven), or after np_host.waiting.
 * *next_ns: the time after which it is to be called in any case; -1: none.  The
 * number of events, or -1 when another thread is inside. */
int64_t np_endpoint_drive(np_endpoint *endpoint, void *thread, int64_t *next_ns);
bool np_endpoint_can_be_driven(void);
/* Ends the current run, or the next one when none is current. */
void np_endpoint_quit(np_endpoint *endpoint);
/* Makes a guest that waits ask np_host.interrupted.  Safe in any callback. */
void np_endpoint_interrupt(np_endpoint *endpoint);
/* Descriptor (Linux) or event handle (Windows) that is readable or signalled
 * while events wait to be dispatched (driven: while there is anything to do);
 * -1 unless marshalled. */
intptr_t np_endpoint_waitable(np_endpoint *endpoint);

bool np_endpoint_is_running(const np_endpoint *endpoint);
bool np_endpoint_has_stopped(const np_endpoint *endpoint);  /* or never listened */
bool np_endpoint_is_forked(const np_endpoint *endpoint);    /* it is the parent's */
bool np_endpoint_is_inside(const np_endpoint *endpoint);    /* this thread runs its event */
void np_endpoint_want_sent(np_endpoint *endpoint, bool want);
const char *np_endpoint_address(const np_endpoint *endpoint);    /* "" before it is known */
/* Returns buffers whose last reference went outside the host's lock.  Called
 * by a host that holds its lock after a write of its own. */
void np_endpoint_discard(np_endpoint *endpoint);

/* Writes to every open connection, one shared buffer (a reference of which is
 * taken for each).  `cookie`, where not NULL, goes with each write after take()
 * of it; drop() is called for one that no event will give back.  A connection
 * that can't take it gets an ERROR event.  The number of those that did; -1: there
 * was no memory to look at them, and nobody was written to. */
int64_t np_endpoint_broadcast(np_endpoint *endpoint, np_buffer *buffer, void *cookie,
                              void (*take)(void *cookie), void (*drop)(void *cookie));

typedef struct np_stats {
    uint64_t connections, connections_total;
    uint64_t messages_in, messages_out, bytes_in, bytes_out;
    uint64_t queued_bytes;      /* accepted by write, not yet handed over */
    uint64_t queued_events;     /* waiting for run or dispatch */
    uint64_t errors;
} np_stats;

void np_endpoint_stats(np_endpoint *endpoint, np_stats *out);

/* ---- connection -------------------------------------------------------- */

void np_connection_retain(np_connection *connection);
void np_connection_release(np_connection *connection);
/* The host's own pointer.  Set inside the CONNECTED event, or by
 * np_endpoint_connect. */
void np_connection_set_user(np_connection *connection, void *user);
void *np_connection_user(const np_connection *connection);
np_endpoint *np_connection_endpoint(const np_connection *connection);
/* The address of its server. */
const char *np_connection_address(const np_connection *connection);

/* Accepts a message to go out: copies it, or holds `hold` where that is not
 * NULL (then data is the buffer's).  Inside an event of the connection's worker
 * it goes out with the batch, else at once.  Empty messages are sent. */
np_code np_connection_write(np_connection *connection, const void *data, size_t size,
                            np_buffer *hold, void *cookie, np_error *error);
/* The same for what most writes are: a small message without a cookie, to the
 * connection of an event of this thread's batch.  False, and nothing has
 * happened, where it is not such a one or does not fit. */
bool np_connection_append(np_connection *connection, const void *data, size_t size);
/* A message of several that go out together. */
typedef struct np_message {
    const void *data;
    size_t size;
    np_buffer *hold;
} np_message;

/* Accepts all of them, or none: as one write that has one cookie. */
np_code np_connection_write_many(np_connection *connection, const np_message *messages,
                                 size_t count, void *cookie, np_error *error);
/* Asks for one message; for continuous_read=false only (else NP_E_STATE). */
np_code np_connection_read(np_connection *connection, void *cookie);
/* While paused nothing more is read: the host has enough for now. */
void np_connection_pause(np_connection *connection, bool paused);
/* Hands over what was written in this batch, as far as the system takes it. */
void np_connection_flush(np_connection *connection);
/* Stops reading, hands over what was written (for at most NP_LINGER_NS), closes.
 * One that is not connected yet ends without ERROR. */
void np_connection_close(np_connection *connection);

/* More waits to go out than write_high_water: DRAINED will come, or the end. */
bool np_connection_is_full(const np_connection *connection);
/* The connection's first failure so far (code NP_OK: none), maybe before its
 * events are delivered. */
np_error np_connection_failure(const np_connection *connection);
bool np_connection_is_open(const np_connection *connection);
bool np_connection_is_opening(const np_connection *connection);
uint64_t np_connection_pending(const np_connection *connection);
intptr_t np_connection_handle(const np_connection *connection);     /* 0: none */

typedef struct np_peer {
    int64_t pid;                /* -1: not known */
    int64_t uid, gid;           /* -1 on Windows */
    char sid[192];              /* "" on Linux */
    char user[256];             /* "" when not known */
} np_peer;

/* Who the other end is.  May look the user's name up, which takes time. */
np_code np_connection_peer(np_connection *connection, np_peer *out);

/* ---- names, time, process ---------------------------------------------------- */

/* The operating system's address of `name`, UTF-8.  Creates nothing. */
np_code np_address(const char *name, char *out, size_t capacity, np_error *error);

/* Monotonic time in nanoseconds. */
int64_t np_clock(void);

#define NP_ADDRESS_MAX 1024
#define NP_LINGER_NS INT64_C(5000000000)
#define NP_HANDSHAKE_NS INT64_C(5000000000)
/* One that is in a handshake for less than this makes room for nobody. */
#define NP_HANDSHAKE_GRACE_NS INT64_C(100000000)
/* What a peer has for its next message at least, where it was this process that
 * took its time. */
#define NP_HANDSHAKE_STEP_NS INT64_C(1000000000)
#define NP_PROGRESS (64 << 10)

#endif
