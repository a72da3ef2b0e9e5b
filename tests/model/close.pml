/* The operation and close protocol of the engine, as src/engine has it: one
 * listening instance, one connection, two workers, a host whose handlers write
 * inside events, a user's thread that writes and closes, a peer, and a stop.
 *
 * The names are the engine's.  A section under a lock is acquire ... release
 * where others look at what changes without the lock, else one atomic step.  A
 * port is what platform.h says: an operation completes once, also after a
 * cancel.
 *
 * What is checked:
 *   - a read, a write and an accept are started one at a time, complete exactly
 *     once each, and none is outstanding when the link closes;
 *   - CONNECTED is followed by DISCONNECTED exactly once, and by nothing after;
 *   - every accepted write comes back exactly once, as SENT or as ERROR;
 *   - nobody touches the connection after its last reference;
 *   - no state is without a next step before all have ended: no wake is lost.
 *
 * STOP_LAST: the stop comes when the connection has ended, which it must do
 * without: by the user's close, or, with PEER_LEAVES, by the peer's.  Without
 * STOP_LAST the stop comes at any time.
 *
 * The M_ switches each take out one thing that holds the protocol together. */

#define W 2

mtype = { OPENING, OPEN, DRAINING, ABORTING, CLOSED };     /* np_state */
mtype = { RUNNING, STOPPING, STOPPED };                    /* np_phase */

/* NP_REQUEST_...: bits of requests */
#define R_OPEN 1
#define R_CLOSE 2
#define R_WRITE_END 4
#define R_SENT 8
#define R_READ 32
#define R_QUEUED 128

/* ---- endpoint ---------------------------------------------------------- */

mtype phase = RUNNING;
bool ep_lock;
bool listening = true;
bool registered;                /* the connection is in endpoint->connections */
byte armed = 1;                 /* of worker 0: all instances are its */
byte live[W];
byte drained_count;

/* ---- workers and their ports ------------------------------------------- */

bool stop_posted[W], drained[W], asleep[W], posted[W], post_closed[W];
bool wake_fd[W];
bool armed_instance = true;     /* the listener has it: a client or a cancel takes it */
bool canceled_accept;           /* completes on worker 0's port */
bool canceled_read, canceled_write;     /* in the ready list of the connection's port */
bool ended[W];

/* ---- the connection ---------------------------------------------------- */

bool exists;
byte refs;
byte worker;
mtype visible = OPENING;       /* np_state */
byte requests;
bool lock;
bool linked, aborted, writing, write_closed, close_asked, dirty, write_error;
byte out, sent;                 /* records queued; handed over, not yet reported */

bool link_open, link_read, link_write;  /* link->read, link->write */
bool shut;                      /* np_link_end_writes */

/* ---- the peer, and what the system has of it ---------------------------- */

bool client_waits, left, sent_hello, hello;
byte room;                      /* records that the socket takes */

/* ---- what the host has seen -------------------------------------------- */

byte accepted, reported_sent, reported_failed, seen_connected, seen_disconnected;
bool user_has;
bool host_writes;               /* the handler has one write to make */

#define ALIVE assert(!exists || refs > 0)
#define LAST_EVENT (due_disconnected || seen_disconnected)

inline acquire(l) { atomic { !l; l = true } }
inline release(l) { l = false }

inline retain() { d_step { assert(refs > 0); refs++ } }

inline drop() {
    d_step {
        assert(refs > 0);
        refs--;
        if
        :: refs == 0 ->
            assert(visible == CLOSED && !link_open && !posted[0] && !posted[1]);
            assert(out == 0 && sent == 0 && !lock)
        :: else
        fi
    }
}

/* ---- connection_calls.c ------------------------------------------------ */

/* np_worker_wake */
inline wake(w) {
    if
    :: d_step { asleep[w] -> asleep[w] = false } -> wake_fd[w] = true
    :: else
    fi
}

/* np_connection_post */
inline post(bits) {
    ALIVE;
    atomic {
        old = requests;
        requests = requests | bits | R_QUEUED
    }
    if
    :: old & R_QUEUED
    :: else ->
        atomic {                /* post_lock */
            put = !post_closed[worker];
            if
            :: put ->
#ifndef M_NO_POSTED_REFERENCE
                refs++;
#endif
                assert(!posted[worker]);
                posted[worker] = true
            :: else
            fi
        }
        if
        :: put -> wake(worker)
        :: else
        fi
    fi
}

/* np_connection_close */
inline close() {
    ALIVE;
    acquire(lock);
    first = !close_asked;
    d_step { close_asked = true; write_closed = true }
    release(lock);
    d_step { if :: visible == OPEN -> visible = DRAINING :: else fi }
    if
    :: first || visible == OPENING || visible == OPEN || visible == DRAINING -> post(R_CLOSE)
    :: else
    fi
}

/* ---- outbound.c -------------------------------------------------------- */

/* settle_locked */
inline settle_locked() {
    bits = 0;
    d_step {
        if :: sent > 0 -> bits = bits | R_SENT :: else fi;
        if :: write_error -> bits = bits | R_WRITE_END :: else fi;
        if :: out == 0 && visible == DRAINING -> bits = bits | R_READ :: else fi
    }
    if
    :: bits -> post(bits)
    :: else
    fi
}

/* np_outbound_flush_locked; np_link_write pends by leaving link_write to epoll */
inline flush_locked() {
    if
#ifdef M_WRITE_AFTER_CANCEL
    :: !linked || write_error
#else
    :: !linked || aborted || write_error
#endif
    :: else ->
        if
        :: writing -> skip
        :: else ->
            do
            :: out > 0 && (left || shut) ->
                d_step { write_error = true; write_closed = true }
                break
            :: out > 0 && !left && !shut && room > 0 ->
                d_step { room--; out--; sent++; assert(link_open) }
            :: out > 0 && !left && !shut && room == 0 ->
                d_step { assert(link_open && !link_write); link_write = true }
                writing = true;
                break
            :: out == 0 -> break
            od
        fi
        settle_locked()
    fi
}

/* np_outbound_write on a thread that delivers no batch of the worker */
inline write_outside() {
    ALIVE;
    acquire(lock);
    if
    :: write_closed
    :: else ->
        d_step { out++; accepted++ }
        flush_locked()
    fi
    release(lock)
}

/* and inside an event: soil_locked */
inline write_inside() {
    atomic {
        !lock;
        if
        :: write_closed
        :: else -> out++; accepted++; dirty = true
        fi
    }
}

/* np_outbound_report */
inline report() {
    atomic {
        !lock;
        assert(sent == 0 || !LAST_EVENT);
        reported_sent = reported_sent + sent;
        if :: sent > 0 -> due_others = true :: else fi;
        sent = 0
    }
}

/* np_outbound_fail_all */
inline fail_all() {
    do
    :: atomic {
        !lock && out > 0 ->
        assert(!LAST_EVENT);
        out--;
        reported_failed++;
        due_others = true
       }
    :: atomic { !lock && out == 0 -> break }
    od
}

/* ---- connection.c ------------------------------------------------------ */

/* set_state: two stores; only `visible` is another thread's business */
inline set_state(s) { state = s; visible = s }

/* cancel_operations, np_link_cancel */
inline cancel_operations() {
    acquire(lock);
    flush_locked();
    d_step {
#ifndef M_WRITES_STAY_OPEN
        write_closed = true;
#endif
        aborted = true
    }
    if
    :: linked && (reading || writing) ->
        atomic {
            if
            :: link_read ->
                link_read = false; assert(!canceled_read); canceled_read = true;
                wake_fd[worker] = true
            :: else
            fi;
#ifdef M_CANCEL_RELEASES
            reading = false; writing = false;
#endif
            if
            :: link_write ->
                link_write = false; assert(!canceled_write); canceled_write = true;
                wake_fd[worker] = true
            :: else
            fi
        }
    :: else
    fi
    release(lock)
}

/* np_connection_abort */
inline abort_connection() {
    touched = true;
    if
    :: state == ABORTING || state == CLOSED
    :: else ->
        set_state(ABORTING);
        cancel_operations()
    fi
}

/* begin_drain */
inline begin_drain(close_writes) {
    touched = true;
    if
    :: close_writes -> atomic { !lock; write_closed = true }
    :: else
    fi
    if
    :: state == OPENING || state == OPEN -> set_state(DRAINING)
    :: else
    fi
}

/* np_connection_open, np_connection_established */
inline open_connection(me) {
    if
#ifndef M_OPEN_AFTER_STOP
    :: state != OPENING
    :: state == OPENING ->
#else
    :: true ->
#endif
        touched = true;
        if
        :: set_state(ABORTING)          /* the peer is not let in */
        :: acquire(lock);
           d_step { linked = true; write_closed = false; state = OPEN }
           visible = OPEN;
           release(lock);
           d_step {
               assert(!connected && !due_connected && !seen_connected);
               connected = true;
               due_connected = true
           }
        fi
    fi
}

/* write_ended */
inline end_writes() {
    if
    :: write_ended || state == CLOSED
    :: else ->
        write_ended = true;
        atomic { !lock; if :: linked -> shut = true :: else fi }
        due_others = true;
        fail_all();
        visible = DRAINING;
        if
        :: state != OPEN || peer_gone -> abort_connection()
        :: else
        fi
    fi
}

/* np_connection_on_requests */
inline on_requests(me, r) {
    if
    :: r & R_OPEN -> open_connection(me)
    :: else
    fi
    if
    :: state == CLOSED
    :: else ->
        if :: r & R_SENT -> report() :: else fi
        if :: r & R_WRITE_END -> end_writes() :: else fi
        if :: r & R_CLOSE -> begin_drain(true) :: else fi
        touched = true
    fi
}

/* np_connection_on_read; peer_left */
inline on_read(end) {
    d_step { assert(reading && link_open); reading = false; touched = true }
    if
    :: state != OPEN -> peer_gone = peer_gone | end
    :: state == OPEN && end -> peer_gone = true; begin_drain(false)
    :: else -> due_others = true
    fi
}

/* np_connection_on_write; np_outbound_completed */
inline on_write(canceled) {
    assert(link_open);
    acquire(lock);
    d_step { assert(writing); writing = false }
    if
    :: canceled -> settle_locked()
    :: else -> flush_locked()
    fi
    release(lock);
    touched = true
}

/* np_accept_reuse; np_accept_again_locked: no other client comes, so what is
 * armed waits for the stop */
inline reuse() {
    atomic {
        !ep_lock;
        assert(registered);
        registered = false;
        live[worker]--;
        if
        :: listening -> assert(!armed_instance); armed++; armed_instance = true
        :: else
        fi;
        assert(link_open && !link_read && !link_write && !canceled_read && !canceled_write);
        link_open = false
    }
}

/* finish */
inline finish() {
    atomic {
        !lock;
        linked = false;
#ifndef M_WRITES_STAY_OPEN
        write_closed = true
#endif
    }
    report();
    fail_all();
    atomic { !lock; state = CLOSED; visible = CLOSED }
    reuse();
    d_step {
        if
        :: connected ->
            assert(!due_disconnected && !seen_disconnected);
            refs++;
            due_disconnected = true
        :: else
        fi;
        connected = false;
        doomed = true
    }
}

/* np_connection_pump */
inline pump(me) {
    ALIVE;
    touched = false;
    if
    :: state == OPEN ->
        if
        :: !reading && !peer_gone ->
            d_step { assert(link_open && !link_read); reading = true; link_read = true }
        :: else
        fi
    :: state == DRAINING ->
        atomic {
            !lock;
            outbox_empty = out == 0 && !writing && !dirty
        }
        if
        :: outbox_empty -> set_state(ABORTING); cancel_operations()
        :: else
        fi
    :: else
    fi
    if
    :: state == ABORTING ->
        atomic { !lock; idle = !reading && !writing }
        if
#ifdef M_FINISH_EARLY
        :: finish()
#else
        :: idle -> finish()
        :: else
#endif
        fi
    :: else
    fi
}

/* ---- accept.c ---------------------------------------------------------- */

/* np_accept_completed, on worker me; `to`: the worker that is picked */
inline accepted_client(me, came) {
    acquire(ep_lock);
    was_listening = listening;
    armed--;
    mine = false;
    elsewhere = false;
    if
    :: came && listening ->
        atomic {
            if :: worker = 0 :: worker = 1 fi;
            exists = true;
            refs = 1;
            registered = true;
            link_open = true;
            live[worker]++;
            mine = worker == me;
            elsewhere = !mine;
            if :: elsewhere -> refs++ :: else fi
        }
    :: else
    fi
    release(ep_lock);
#ifndef M_NO_WAKE_OF_INSTANCE
    if
    :: !was_listening && me != 0 -> wake(0)
    :: else
    fi;
#endif

    if
    :: elsewhere -> post(R_OPEN); drop()
    :: mine -> open_connection(me)
    :: else
    fi
}

/* ---- worker.c ---------------------------------------------------------- */

#define NOTHING_DUE (!due_connected && !due_disconnected && !due_others \
                         && !touched && !doomed)

/* is_empty */
inline look_empty(me) {
    nothing = false;
    if
    :: stopping && NOTHING_DUE ->
        atomic { !ep_lock; nothing = live[me] == 0 && (me != 0 || armed == 0) }
    :: else
    fi
}

/* has_posted */
inline look_posted(me) {
    look_empty(me);
    nothing = nothing || posted[me] || (stop_posted[me] && !stopping)
}

/* begin_stop */
inline begin_stop(me) {
    stopping = true;
    acquire(ep_lock);
    if
    :: registered && worker == me -> abort_connection()
    :: else
    fi
    release(ep_lock)
}

/* What epoll or the ready list has for this port. */
#define ACCEPT_DUE (client_waits && armed_instance && listening)
#define READ_DUE(me) (exists && worker == me && link_read && (hello || left || shut))
#define WRITE_DUE(me) (exists && worker == me && link_write && (room > 0 || left || shut))
#define CANCELED(me) ((me == 0 && canceled_accept) \
                      || (exists && worker == me && (canceled_read || canceled_write)))
#define PORT_DUE(me) (wake_fd[me] || ACCEPT_DUE || READ_DUE(me) || WRITE_DUE(me) || CANCELED(me))

/* np_port_wait, np_worker_process: one completion each time.  Taking it and
 * what it was for is one step; the rest happens later. */
inline take_completion(me) {
    if
    :: atomic { me == 0 && canceled_accept -> canceled_accept = false } ->
        accepted_client(me, false)
    :: atomic { exists && worker == me && canceled_read -> canceled_read = false } ->
        on_read(false)
    :: atomic { exists && worker == me && canceled_write -> canceled_write = false } ->
        on_write(true)
    :: atomic { ACCEPT_DUE -> armed_instance = false; client_waits = false } ->
        accepted_client(me, true)
    :: atomic { READ_DUE(me) -> link_read = false; eof = !hello; hello = false } ->
        on_read(eof)
    :: atomic { WRITE_DUE(me) -> link_write = false } ->
        on_write(false)
    :: else
    fi
}

/* np_delivery_run */
inline deliver(me) {
    if
    :: due_connected || due_others || due_disconnected ->
        if
        :: atomic { due_connected ->
                due_connected = false; seen_connected++; refs++ }
            user_has = true
        :: else
        fi
        if
        :: host_writes && !due_disconnected && seen_connected ->
            host_writes = false; write_inside()
        :: else
        fi
        due_others = false;
        if
        :: due_disconnected ->
            d_step {
                due_disconnected = false;
                seen_disconnected++;
                assert(seen_connected == 1 && seen_disconnected == 1);
                assert(reported_sent + reported_failed == accepted)
            }
            drop()
        :: else
        fi
    :: else
    fi
    if                          /* flush_dirty */
    :: exists && worker == me && dirty ->
        acquire(lock);
        dirty = false;
        flush_locked();
        release(lock)
    :: else
    fi
    if                          /* pump_touched */
    :: touched -> pump(me)
    :: else
    fi
    if
    :: doomed -> doomed = false; drop()
    :: else
    fi
}

proctype Worker(byte me) {
    /* Poller only: of the worker, of its batch, and of the connection if it is its. */
    bool stopping, touched, due_connected, due_disconnected, due_others, doomed;
    mtype state = OPENING;
    bool reading, connected, peer_gone, write_ended;
    byte old, r, bits;
    bool put, outbox_empty, idle, mine, elsewhere, was_listening, eof, stops_now, polls, nothing;
    do
    :: drained[me] -> break
    :: else ->
        if                      /* process_posted */
        :: atomic { posted[me] -> posted[me] = false } ->
            ALIVE;
            d_step { r = requests; requests = 0 }
            on_requests(me, r);
#ifndef M_NO_POSTED_REFERENCE
            drop()
#endif
        :: else
        fi
        stops_now = stop_posted[me] && !stopping;
        if
        :: stops_now -> begin_stop(me)
        :: else
        fi
        polls = NOTHING_DUE && !stops_now;
        if
        :: polls ->
#ifdef M_LOOKS_BEFORE_ASLEEP
            look_posted(me); asleep[me] = true;
#else
            asleep[me] = true; look_posted(me);
#endif
            polls = !nothing
        :: else
        fi
        if
        :: polls -> PORT_DUE(me)        /* sleeps */
        :: else
        fi
        wake_fd[me] = false;
        asleep[me] = false;
        take_completion(me);
        deliver(me);
        look_empty(me);
        if
        :: nothing ->
            post_closed[me] = true;
            if                  /* close_posted */
            :: atomic { posted[me] -> posted[me] = false }
#ifndef M_NO_POSTED_REFERENCE
                drop()
#endif
            :: else
            fi
            atomic {            /* np_endpoint_worker_drained */
                !ep_lock;
                drained[me] = true;
                drained_count++;
                if :: drained_count == W -> phase = STOPPED :: else fi
            }
        :: else
        fi
    od;
    ended[me] = true
}

/* ---- the others -------------------------------------------------------- */

proctype User() {
    byte old, bits;
    bool put, first;
    if
    :: user_has ->
#ifdef USER_WRITES
        if
        :: write_outside()
        :: skip
        fi;
#endif
#ifndef PEER_LEAVES
        if
        :: close()
#ifndef STOP_LAST
        :: skip
#endif
        fi
#endif
        drop()
    :: phase == STOPPED && ended[0] && ended[1] && !user_has
    fi
}

proctype Peer() {
    client_waits = true;
    do
    :: atomic { exists && link_open && room == 0 -> room = 1 }
#ifdef HELLO
    :: atomic { exists && link_open && !sent_hello -> sent_hello = true; hello = true }
#endif
#if !defined(STOP_LAST) || defined(PEER_LEAVES)
    :: exists && link_open -> left = true; break
#endif
    :: exists && !link_open -> break
    :: !listening -> break
    od
}

/* np_endpoint_stop_begin, np_endpoint_stop_wait */
proctype Stop() {
#ifdef STOP_LAST
    exists && !link_open && visible == CLOSED && refs == 0;
#endif
    phase = STOPPING;
#ifdef M_STOPS_WORKERS_FIRST
    stop_posted[0] = true; wake(0);
    stop_posted[1] = true; wake(1);
#endif
    atomic {                    /* np_accept_stop */
        !ep_lock;
        listening = false;
        if
        :: armed_instance ->
            armed_instance = false; canceled_accept = true; wake_fd[0] = true
        :: else
        fi
    }
#ifndef M_STOPS_WORKERS_FIRST
    stop_posted[0] = true; wake(0);
    stop_posted[1] = true; wake(1);
#endif
    phase == STOPPED && ended[0] && ended[1];
    d_step {
        assert(armed == 0 && live[0] == 0 && live[1] == 0 && !registered);
        assert(seen_connected == seen_disconnected);
        assert(reported_sent + reported_failed == accepted);
        assert(!link_open && !link_read && !link_write)
    }
}

init {
    atomic {
#ifdef HOST_WRITES
        if :: host_writes = true :: host_writes = false fi;
#endif
        run Worker(0);
        run Worker(1);
        run User();
        run Peer();
        run Stop()
    }
    _nr_pr == 1;
    assert(!exists || refs == 0)
}
