/* The operation and close protocol of the engine: two workers without
 * marshalled events, one connection, a user's thread that writes and closes, a
 * peer, and a stop.  How marshalled events change hands is in lease.pml.
 *
 * Names are the engine's.  Whatever a thread does between two things that other
 * threads can see is one step: a section under a lock is one, and a lock is a
 * variable only where requests are posted, or another lock is taken, with it
 * held.  A port is what platform.h says: an operation that was started completes
 * once, also after a cancel.
 *
 * What is checked:
 *   - a read, a write and an accept are started one at a time and complete
 *     exactly once each; none is outstanding when the link closes;
 *   - CONNECTED is followed by DISCONNECTED exactly once, and by nothing after;
 *   - every accepted write comes back exactly once, as SENT or as ERROR, before
 *     DISCONNECTED;
 *   - nobody touches the connection after its last reference, and all of them
 *     are given back; nobody wakes a port that is closed;
 *   - nothing is delivered when the stop has returned;
 *   - no state is without a next step before all have ended (no wake is lost),
 *     and, as a search for cycles finds none, every run ends.
 *
 * What happens; run.py has the sets that are checked:
 *   USER_WRITES, HOST_WRITES   a write by the user's thread, inside an event
 *   USER_CLOSES                the user's thread may close; with STOP_LAST it does
 *   PEER_SENDS, PEER_LEAVES    the peer may send a message; may leave
 *   PEER_READS                 the peer reads as long as there is something; else
 *                              it may never read
 *   LINGER                     the linger time may be over at any time
 *   STOP_LAST                  the stop comes when the connection has ended,
 *                              which it must do without; else at any time
 *   POOL                       one instance in all (max_instances), which is armed
 *                              again when the connection has ended; else at once
 *   OTHERS                     workers have other connections, which keep them
 *                              alive for a while when they stop
 *   HOLDS                      the traits of Windows: an instance is bound to its
 *                              worker, a pending write owns its record, and a
 *                              cancel may come too late
 *   WAKES                      a poller falls asleep and is woken step by step;
 *                              else it goes on when there is something to do
 *
 * Each M_ switch takes out one thing that holds the protocol together. */

#if defined(USER_WRITES) || defined(HOST_WRITES)
#define WRITES
#endif

mtype = { OPENING, OPEN, DRAINING, ABORTING, CLOSED };      /* np_state */
mtype = { NOTHING, CONNECTED_DUE, CONNECTED_SEEN,           /* of events: in the batch; */
          DISCONNECTED_DUE, DISCONNECTED_SEEN };            /* delivered */
mtype = { NONE, DONE, EOF, CANCELED, FAILED };              /* of a completion */

/* NP_REQUEST_...: bits of requests.  READ does no more here than that the
 * connection is pumped, which every request does. */
#define R_OPEN 1
#define R_CLOSE 2
#define R_WRITE_END 4
#define R_SENT 8
#define R_QUEUED 16
#define R_READ R_QUEUED

/* ---- endpoint ---------------------------------------------------------- */

bool ep_lock;                   /* held over more than a step by begin_stop only */
bool phase_stopped;                   /* np_phase is NP_PHASE_STOPPED */
bool listening = true;
bool registered;                /* the connection is in endpoint->connections */
bool armed = true;              /* an instance, of worker 0 */
byte live[2];
byte drained_count;
bool returned;                  /* np_endpoint_stop_wait has */

/* ---- workers and their ports ------------------------------------------- */

bool stop_posted[2], asleep[2], ended[2], closed[2], exited[2];
bool wake_fd[2], port_closed[2];
bool instance = true;           /* the listener has it, until a client or a cancel takes it */
bool ready_accept;              /* it was cancelled: in the ready list of worker 0's port */

/* ---- the connection ---------------------------------------------------- */

bool exists, freed;
byte refs;
byte worker;
byte requests;
bool posted;                    /* in worker->posted */
bool lock;
mtype visible = OPENING;
bool linked, aborted, writing, write_closed, write_error;
byte out, sent;                 /* records queued; handed over, not yet reported */
bool link_open, link_write;     /* the link; a write waits for room in it */

/* ---- the peer, and what the system has of it ---------------------------- */

bool client_waits, inbox, left;
byte room;                      /* records that the socket takes */

/* ---- what the host has and has seen -------------------------------------- */

byte owed;                      /* writes accepted, not yet reported */
bool user_has, user_ended;

#define ALIVE assert(exists && !freed)

/* np_connection_release */
inline drop() {
    d_step {
        assert(exists && refs > 0 && !freed);
        refs--;
        if
        :: refs == 0 ->
            assert(visible == CLOSED && !link_open && !registered && !posted);
            assert(out == 0 && sent == 0 && !lock);
            freed = true;
            requests = 0
        :: else
        fi
    }
}

#include "posting.pml"
#include "connection.pml"
#include "worker.pml"

/* ---- the others -------------------------------------------------------- */

proctype User() {
    byte step;
    bool refused;
    if
    :: atomic { user_has -> user_has = false }
#ifdef USER_WRITES
        if
        :: write_outside()
        :: true
        fi;
#endif
#ifdef USER_CLOSES
        if
        :: true ->                      /* np_connection_close */
            atomic {
                !lock;
                ALIVE;
                write_closed = true
            }
            d_step { if :: visible == OPEN -> visible = DRAINING :: else fi }
            atomic { request(R_CLOSE) }
            post(false)
#ifndef STOP_LAST
        :: true
#endif
        fi;
#endif
        drop()
    :: atomic { exited[0] && exited[1] && !user_has -> skip }
    fi;
    user_ended = true
}

/* What it does at all is chosen first: whatever it may do does not hide that
 * nothing else happens. */
proctype Peer() {
    bool sends, leaves;
    bool reads = true;
    atomic {
#if defined(WRITES) && !defined(PEER_READS)
        if :: reads = false :: true fi;
#endif
#ifdef PEER_SENDS
        if :: sends = true :: true fi;
#endif
#ifdef PEER_LEAVES
        if
        :: leaves = true
#if !defined(STOP_LAST) || defined(USER_CLOSES)
        :: true
#endif
        fi;
#endif
        skip
    }
    client_waits = true;
end:
    do
    :: atomic { link_write && reads && room == 0 -> room = 1 }
    :: atomic { link_open && sends -> sends = false; inbox = true }
    :: atomic { link_open && leaves -> left = true; break }
    od
}

/* np_endpoint_stop_begin, np_endpoint_stop_wait */
proctype Stop() {
    byte step;
#ifdef STOP_LAST
    freed;
#endif
#ifdef M_STOPS_WORKERS_FIRST
    stop_posted[0] = true;
    wake(0, false);
    stop_posted[1] = true;
    wake(1, false);
#endif
    atomic {                            /* np_accept_stop */
        !ep_lock;
        listening = false;
        if
        :: instance -> instance = false; ready_accept = true
        :: else
        fi;
#ifdef WAKES
        wake_fd[0] = wake_fd[0] || ready_accept
#endif
    }
#ifndef M_STOPS_WORKERS_FIRST
    stop_posted[0] = true;
    wake(0, false);
    stop_posted[1] = true;
    wake(1, false);
#endif
#ifdef M_WAITS_FOR_ONE
    drained_count > 0;
#else
    phase_stopped && exited[0] && exited[1];    /* and np_thread_join */
#endif
    d_step {
        port_closed[0] = true;
        port_closed[1] = true;
        returned = true;
        assert(!armed && live[0] == 0 && live[1] == 0 && !registered && !link_open);
        assert(owed == 0)
    }
}

init {
    atomic {
#ifdef WRITES
        if :: room = 0 :: room = 1 fi;
#endif
        run Worker(0);
        run Worker(1);
        run User();
        run Peer();
        run Stop()
    }
    user_ended && returned;
    assert(!exists || freed)
}
