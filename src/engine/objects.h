/* Connections, workers, endpoints: the objects that the portable engine's files share.
 *
 * Data flows one way: the worker's port completes operations, the connection
 * turns them into events in the worker's batch, delivery gives the batch to
 * the host, and what the host wrote meanwhile goes out when the batch is
 * flushed.  Everything that moves a connection from state to state happens on
 * the thread that polls its worker's port (the poller).  Any other thread only
 * appends to the outbox, sends from it, and posts requests.
 *
 * The poller of a worker is its own thread.  With marshalled events there is
 * one worker, and a guest (a thread inside run, dispatch or stop) takes its
 * place for as long as it stays: see lease.  A driven endpoint's worker has no
 * thread: guests are the only pollers, and between them the port itself says
 * when the next one is due.
 *
 * Lock order: endpoint->lock, connection->lock, then one of the leaves
 * (worker->post_lock, worker->wake_lock, backlog.lock, trash_lock, locks inside
 * a platform).  The host's lock (the GIL) is never waited for with any of them
 * held, so a host may call the engine with its own lock held.  lease.lock is
 * taken with none of them held, and none is taken inside it.
 *
 * What guards a field.  Nothing here relies on the host's lock.  Each structure
 * says for every field, or for a group of them, which of these it is:
 *
 *   constant     written before other threads can know of it, read by all
 *   a lock       its name; read and written with it held, but where said
 *   atomic       np_atomic_*
 *   poller only  of the worker: handed on with the lease, or by `dispatching`
 *   starter's    written by the thread inside np_endpoint_listen or _open before
 *                `starting` ends; read after that, by those who join
 *
 * Whoever drops the last reference is alone, and needs none of them.
 *
 * tests/model/close.pml, and lease.pml beside it, are models of this protocol
 * that a checker searches through.  Their names are those of the engine: the
 * processes Worker (np_worker_main), User (any other thread with a reference),
 * Stop (np_endpoint_stop_begin and np_endpoint_stop_wait), Guest (a thread in
 * run or dispatch) and Quit; the states of np_state and np_phase; the requests,
 * R_OPEN for NP_REQUEST_OPEN; fields and functions.  What is changed here is
 * changed there.
 */
#ifndef NP_OBJECTS_H
#define NP_OBJECTS_H

#include "atomic.h"
#include "backoff.h"
#include "buffer.h"
#include "frame.h"
#include "handshake.h"
#include "list.h"
#include "npipes.h"
#include "outbox.h"
#include "platform.h"
#include "sync.h"

enum {
    NP_COMPLETIONS = 256,           /* of one np_port_wait */
    NP_ARENA_SIZE = 1 << 20,
    NP_DIRECT_SIZE = 32 << 10,      /* from here on a message is received into its own buffer */
    NP_RESERVE_FIRST = 1 << 20,     /* a length is believed this far before bytes come, */
    NP_RESERVE_FACTOR = 16,         /* and this many times what has come, after that */
    NP_HOLD_SIZE = 64 << 10,        /* from here on a host's buffer is held, not copied */
    NP_BACKLOG_LIMIT = 1 << 20      /* bytes of undelivered events before reading pauses */
};

/* ---- timers ------------------------------------------------------------ */

typedef struct np_worker np_worker;
typedef struct np_batch np_batch;

typedef struct np_timer np_timer;
typedef void np_timer_fire(np_timer *timer, np_batch *batch);

/* Poller only. */
struct np_timer {
    np_node node;
    int64_t deadline;
    np_timer_fire *fire;
};

/* ---- connection -------------------------------------------------------- */

/* The life of a connection, changed by its poller only:
 *
 *   DIALING   of a client: has no link; an attempt to connect is under way, or
 *             the next one waits for its time.  One that reconnects comes back
 *             here instead of CLOSED
 *   OPENING   accepted, on its way to its worker
 *   GREETING  has a link; both ends have yet to prove that they have the key
 *   OPEN      CONNECTED is in a batch; reads and writes
 *   DRAINING  no more reads; waits for the outbox to empty, the peer to leave
 *             or the linger time to end
 *   ABORTING  operations are cancelled; waits for the last to complete
 *   CLOSED    the link is closed, DISCONNECTED is in a batch
 *
 * The model has those from OPENING on, but GREETING, as `state`; beside it what
 * the host was `told`: NOTHING, CONNECTED_DUE (in a batch), CONNECTED_SEEN
 * (delivered), DISCONNECTED_DUE, DISCONNECTED_SEEN.
 */
typedef enum np_state {
    NP_STATE_DIALING,
    NP_STATE_OPENING,
    NP_STATE_GREETING,
    NP_STATE_OPEN,
    NP_STATE_DRAINING,
    NP_STATE_ABORTING,
    NP_STATE_CLOSED
} np_state;

/* Requests of other threads to the poller: bits of np_connection.requests. */
enum {
    NP_REQUEST_OPEN = 1,        /* a new connection for this worker, or to dial */
    NP_REQUEST_CLOSE = 2,
    NP_REQUEST_WRITE_END = 4,   /* a write failed: write_error */
    NP_REQUEST_SENT = 8,        /* outbox.sent has entries */
    NP_REQUEST_DRAINED = 16,    /* fell below the low-water mark */
    NP_REQUEST_READ = 32,       /* reading may go on: a read(), room in the backlog */
    NP_REQUEST_REFUSED = 64,    /* refusals has entries */
    NP_REQUEST_QUEUED = 128,    /* it is in the worker's posted list */
    NP_REQUEST_REDIAL = 256,    /* the host has seen the DISCONNECTED it had to see first */
    NP_REQUEST_CROWDED = 512    /* it should make room for another one's handshake */
};

/* A broadcast that the connection could not take.  In a list of connection->lock. */
typedef struct np_refusal {
    struct np_refusal *next;
    np_error error;
    void *cookie;
} np_refusal;

/* A read() that waits for its message.  Likewise. */
typedef struct np_read_request {
    struct np_read_request *next;
    void *cookie;
} np_read_request;

/* What a connection has in addition when it is a client's. */
typedef struct np_client {
    char *address;                  /* constant */
    int64_t timeout_ns;             /* constant */
    /* -- written by the poller with endpoint->lock held (for fork), read by it -- */
    np_dial dial;
    bool outstanding;               /* the dial has yet to complete */
    bool has_link;                  /* connection->link is one */
    /* -- poller only -- */
    bool expired;                   /* the deadline cancelled the dial */
    bool reported;                  /* the failure of this time without connection was */
    bool first;                     /* it has neither been connected nor reported yet */
    bool retry;                     /* a handshake failed, and another attempt is due */
    int64_t deadline;               /* INT64_MAX: none */
    int64_t opened;                 /* when it was connected last */
    np_backoff wait, reconnect;
} np_client;

/* What a connection has in addition until the key is proved.  Poller only. */
typedef struct np_greeting {
    np_connection *connection;
    np_node node;                   /* in endpoint->unproved; endpoint->lock */
    int64_t begun;                  /* constant */
    int64_t deadline;
    np_handshake shake;
    np_error error;                 /* why it failed; reported when the last message went out */
    bool listed;                    /* in batch->due */
    unsigned failures;              /* of the host's, one after another */
    struct np_greeting *due_next;
} np_greeting;

struct np_connection {
    /* What every message needs comes first, so that it lies in few cache lines. */
    np_atomic_u32 refs;
    np_atomic_u32 requests;
    np_atomic_u32 visible;          /* np_state, as other threads may see it */
    np_mutex lock;
    np_atomic_u64 pending;          /* bytes in the outbox */
    np_atomic_u64 backlog;          /* bytes in events not yet delivered */
    np_atomic_u32 paused;           /* by the host */
    /* -- constant -- */
    np_endpoint *endpoint;
    np_worker *worker;
    np_client *client;              /* NULL: a server's */
    /* -- */
    np_greeting *greeting;          /* NULL: none is to be made, or it is over.  Set with
                                       endpoint->lock held, by whoever admits it, then by the
                                       poller, which reads it without */
    void *user;                     /* of the thread that delivers its events; before the first
                                       of them, of np_endpoint_connect */
    np_connection *dirty_next;      /* of the batch in whose list it is; while dirty */

    /* -- poller only -- */
    np_connection *touched_next;
    np_state state;
    bool reading, touched;
    bool connected;                 /* CONNECTED was reported, so DISCONNECTED will be */
    bool peer_gone, write_ended;
    unsigned header_size;           /* of the message that is arriving */
    np_buffer *arriving;
    size_t arrived;
    uint64_t expected;              /* its whole length */
    size_t wanted_capacity;         /* of a buffer the host must make before reading goes on */
    uint64_t progress;              /* bytes read since the timer of its timeout was set */
    np_operation read_op;

    /* -- guarded by lock -- */
    bool linked;                    /* link may be written to, and asked */
    bool aborted;                   /* operations were cancelled; none may start */
    bool writing;                   /* write_op is outstanding */
    bool write_closed;              /* no more writes are accepted */
    bool close_asked;               /* np_connection_close was called */
    bool above_high;
    bool dirty;                     /* in batch->dirty; changed by who delivers that batch */
    np_error write_error;
    np_outbox out;
    np_link link;                   /* while linked; else the poller's, which opens and closes it
                                       with endpoint->lock held (for fork).  What a platform keeps
                                       in it for reads is poller only */
    np_operation write_op;
    np_read_request *reads, **reads_tail;
    np_refusal *refusals;
    bool refusal_lost;              /* there was no memory for one */
    np_error error;                 /* the first failure; code NP_OK: none.  The poller writes it,
                                       which reads it without */

    /* -- poller only -- */
    np_timer timer;
    uint8_t header[NP_HEADER_MAX];
    const uint8_t *wanted_data;     /* first bytes, in the batch's memory */
    size_t wanted_size;
    np_connection *wanted_next;
    np_connection *doomed_next;
    /* continuous_read=false: messages that no read() has asked for yet. */
    np_buffer *held, **held_tail;

    np_connection *posted_next;     /* worker->post_lock; the poller's once it is taken */
    np_node registry;               /* endpoint->lock */
};

/* ---- batch ------------------------------------------------------------- */

/* What one poll produced.  All of it belongs to the thread that polls or dispatches. */
struct np_batch {
    np_worker *worker;
    np_endpoint *endpoint;
    np_event *events;
    size_t count, capacity;
    bool owns;                      /* an event has a reference to give back */
    np_arena arena;
    np_chunk_pool *chunks;          /* the poller's; NULL where another thread dispatches */
    np_connection *dirty;           /* written to by the host inside deliver */
    np_connection *touched, **touched_tail;     /* to pump when all is done */
    np_connection *wanted;          /* need a buffer from the host */
    np_greeting *due;               /* need the host's secrets */
    np_connection *doomed;          /* CLOSED; one reference each */
    np_batch *outer;                /* a batch this thread was already delivering */
};

/* ---- worker ------------------------------------------------------------ */

struct np_worker {
    /* -- constant -- */
    np_endpoint *endpoint;
    unsigned index;
    const np_time_source *time;     /* what timers go by; NULL: the system's */
    np_port port;                   /* its parts guard themselves; closed when it has `ended` */
    /* -- starter's -- */
    np_thread thread;
    bool started;                   /* thread is one */
    /* -- poller only -- */
    np_batch batch;
    np_completion completions[NP_COMPLETIONS];
    np_chunk_pool chunks;
    np_list timers;                 /* by deadline */
    np_list message_timers;         /* likewise; all have the same delay */
    uint64_t random;                /* state of the jitter's generator */
    bool stopping;                  /* has begun to end its connections */
    /* -- endpoint->lock -- */
    size_t live;                    /* connections not yet CLOSED */
    size_t armed;                   /* instances bound to it */
    /* -- post_lock -- */
    np_mutex post_lock;
    np_connection *posted, **posted_tail;
    bool closed;                    /* the poller has ended; nothing is posted any more */
    /* -- atomic -- */
    np_atomic_u32 any_posted;       /* posted != NULL, for the poller without the lock */
    np_atomic_u32 drained;          /* nothing is left; the poller may end */
    np_atomic_u32 stop_posted;
    np_atomic_u32 asleep;           /* the poller sleeps, or is about to */
    /* -- wake_lock: not post_lock, which a poller that was woken takes at once -- */
    np_mutex wake_lock;
    bool ended;                     /* the port is not woken any more */
    /* -- atomic -- */
    np_atomic_u64 messages_in, messages_out, bytes_in, bytes_out, errors;
};

/* ---- endpoint ---------------------------------------------------------- */

typedef enum np_phase {
    NP_PHASE_NEW,
    NP_PHASE_RUNNING,
    NP_PHASE_STOPPING,
    NP_PHASE_STOPPED
} np_phase;

/* One wait for one client. */
typedef struct np_slot {
    np_instance instance;           /* the platform's until it completes, then the poller's */
    np_node node;                   /* endpoint->slots, or spare_slots; endpoint->lock */
    np_worker *worker;              /* constant while armed */
} np_slot;

/* Who polls the one worker's port of a marshalled endpoint: the worker's
 * thread, unless a guest is there or wants to be. */
typedef struct np_lease {
    np_mutex lock;
    np_cond changed;
    bool worker_polls;              /* lock */
    np_atomic_u32 guests;           /* inside or waiting to be; written with lock held */
} np_lease;

/* Events of a marshalled endpoint that no guest was there to take. */
typedef struct np_backlog {
    np_mutex lock;
    np_atomic_u32 any;              /* count > 0, for those without the lock */
    /* -- lock -- */
    np_event *events;
    size_t first, count, capacity;
    np_signal signal;               /* set while count > 0; lives as the ports do */
} np_backlog;

struct np_endpoint {
    /* -- constant -- */
    np_config config;
    np_host host;
    uint64_t append_limit;          /* bytes in an outbox that no limit is near; 0: never */
    char address[NP_ADDRESS_MAX];   /* from `addressed` on; "" of one that only connects */
    /* -- atomic -- */
    np_atomic_u32 refs;
    np_atomic_u32 addressed;
    np_atomic_u32 want_sent;
    np_atomic_u32 phase;            /* np_phase */
    np_atomic_u32 forked;

    /* -- lock -- */
    np_mutex lock;
    np_cond ended;                  /* a worker drained or joined, a guest left, all joined */
    np_list connections;            /* by registry */
    size_t connection_count;        /* of those that have a link */
    size_t greeting_count;          /* of those, the ones in a handshake */
    np_list unproved;               /* of a server: those that have yet to prove the key, */
    size_t unproved_count;          /* the oldest first */
    np_list slots;                  /* armed */
    np_list spare_slots;            /* kept, so that to wait again takes no memory */
    bool listening;                 /* listener is one */
    bool accept_paused;             /* accept_timer is set */
    np_listener listener;           /* what it is made of guards itself, too */
    unsigned joined;                /* workers whose threads run */
    unsigned drained_count;
    bool starting;                  /* listen has not returned */
    bool joining, threads_joined;
    bool closed;                    /* ports and signals are closed */
    np_worker *workers;             /* NULL until all are there; written with lock held, and */
    unsigned worker_count;          /* constant for those who have seen RUNNING */

    np_timer accept_timer;          /* after a failed accept; of the poller that set it */

    /* -- each guards itself, or is atomic -- */
    np_lease lease;
    np_backlog backlog;
    np_atomic_u32 dispatching;      /* a guest is inside run or dispatch */
    np_atomic_u32 quit;
    np_atomic_u32 attention;        /* the guest is to ask np_host.interrupted */
    np_atomic_u32 ready;            /* READY is due; worker 0's poller reports it */
    np_signal quit_signal;          /* for run() of an endpoint that is not marshalled */

    np_mutex trash_lock;
    np_buffer *trash;               /* trash_lock */
    np_atomic_u32 trashed;          /* trash != NULL; written with trash_lock held */

    np_atomic_u64 connections_total;
    np_node fork_node;              /* of all endpoints, for fork; the lock of fork.c */
};

#endif
