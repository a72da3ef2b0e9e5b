/* Marshalled events: the worker's thread, a guest that runs or dispatches CALLS
 * times, a quit, and a stop.  They take turns at polling the one worker's port (the
 * lease), and one at a time they deliver (the claim of `dispatching`).  What the
 * connections do is in close.pml; here they are events, the last of which comes
 * of the stop.
 *
 * Names and steps are as in close.pml.
 *
 * What is checked:
 *   - one thread polls at a time, and one delivers;
 *   - events are delivered in their order: none from a batch while older ones
 *     wait in the backlog or are being delivered;
 *   - when the stop returns, all of them have been delivered, none is after
 *     that, and nobody polls or wakes a port that is closed;
 *   - no state is without a next step before all have ended, and every run ends:
 *     a run does when it is told to quit, and the stop returns.
 *
 * Where waits of the engine have a time after which they look again (ASK_NS),
 * the model's have not: nothing depends on it. */

#ifndef EVENTS
#define EVENTS 1
#endif
#ifndef CALLS
#define CALLS 2
#endif

/* np_phase */
bool stopping_phase, stopped_phase;
bool ep_lock;
bool stop_waits;                /* for endpoint->ended */
bool joined;                    /* the worker's thread has ended */
bool port_closed, returned;

/* the worker and its port */
bool stop_posted, stopping, drained, asleep, wake_fd;
byte net;                       /* what the system has: events to come */

/* lease, backlog */
bool worker_polls;
byte guests;
bool dispatching;
bool quit, attention;
byte backlog;

/* what is seen */
bool polling, delivering;
byte taken, delivered;          /* events that were read; that the host has seen */

/* np_cond_broadcast(&endpoint->ended) with endpoint->lock */
inline broadcast() { atomic { !ep_lock; stop_waits = false } }

/* np_worker_wake; that a port is not closed meanwhile is close.pml's subject */
inline wake() {
    atomic { woke = asleep; asleep = false }
    if
    :: woke -> atomic { assert(!port_closed); wake_fd = true; woke = false }
    :: else
    fi
}

/* np_delivery_backlog, in one piece */
inline drain_backlog() {
    atomic { n = backlog; backlog = 0 }
    if
    :: n > 0 ->
        atomic { assert(!delivering && !returned); delivering = true }
        atomic { delivering = false; delivered = delivered + n; n = 0 }
    :: else
    fi
}

/* is_empty; only whoever polls changes what it looks at */
#define EMPTY (stopping && count == 0)

/* np_worker_poll, np_delivery_run */
inline poll(queue) {
    d_step { assert(!polling && !port_closed); polling = true; sleeps = true }
    if                                  /* begin_stop: DISCONNECTED is due */
    :: stop_posted && !stopping ->
        atomic { stopping = true; count = 1; taken++; sleeps = false }
    :: else ->                          /* has_posted */
        asleep = true;
        sleeps = !(stop_posted && !stopping);
        sleeps = sleeps && !EMPTY;
        sleeps = sleeps && !(queue -> guests > 0 : attention)
    fi;
    atomic {                            /* np_port_wait */
        (!sleeps || wake_fd || (net > 0 && !stopping));
        sleeps = false;
        wake_fd = false;
        if
        :: net > 0 && !stopping -> count = count + net; taken = taken + net; net = 0
        :: else
        fi
    }
    asleep = false;
    if
    :: count > 0 && queue -> atomic { backlog = backlog + count; count = 0 }
    :: count > 0 && !queue ->
        atomic { assert(!delivering && !returned && backlog == 0); delivering = true }
        atomic { delivering = false; delivered = delivered + count; count = 0 }
    :: else
    fi;
    if
    :: !queue -> attention = false
    :: else
    fi;
    if                                  /* np_endpoint_worker_drained */
    :: stopping && !drained ->
        atomic { !ep_lock; drained = true; stopped_phase = true; stop_waits = false }
    :: else
    fi;
    polling = false
}

/* np_lease_enter_worker, np_lease_leave_worker, np_worker_main */
proctype Worker() {
    byte count;
    bool sleeps;
    do
    :: atomic { guests == 0 -> worker_polls = true }
        if
        :: drained -> break
        :: else -> poll(true)
        fi;
        worker_polls = false
    od;
    atomic { worker_polls = false; joined = true }
}

inline enter_guest() {
    atomic {
        guests++;
        if
        :: worker_polls -> assert(!port_closed); wake_fd = true
        :: else
        fi
    }
#ifndef M_NO_LEASE
    !worker_polls
#endif
}

inline unclaim() {
#ifdef M_LOOKS_BEFORE_UNCLAIM
    seen = stopping_phase;
    dispatching = false;
#else
    dispatching = false;
    seen = stopping_phase;
#endif
    if
    :: seen -> seen = false; broadcast()
    :: else
    fi
}

/* np_endpoint_run, without a time and with one that may be over at any time;
 * np_endpoint_dispatch without waiting */
proctype Guest() {
    byte n, count, calls;
    bool sleeps, seen, claimed, timed;
    do
    :: calls == CALLS || stopped_phase -> break
    :: else ->
        atomic { calls++; claimed = !dispatching; dispatching = true }
        if
        :: !claimed
        :: claimed -> drain_backlog(); unclaim()
        :: claimed ->
            if :: timed = true :: timed = false fi;
            enter_guest();
            do
            :: true ->
#ifndef M_POLLS_BEFORE_BACKLOG
                drain_backlog();
#endif
                if
                :: stopped_phase -> break
                :: else
                fi;
                if
                :: atomic { quit -> quit = false } break
                :: else
                fi;
                if
                :: timed -> break
                :: true -> poll(false)
                fi
            od;
            atomic { guests--; timed = false }
            unclaim()
        fi;
        claimed = false
    od
}

/* np_endpoint_quit, np_endpoint_interrupt */
proctype Quit() {
    quit = true;
    atomic { !ep_lock; ep_lock = !port_closed }
    if
    :: ep_lock ->
        attention = true;
        atomic { assert(!port_closed); wake_fd = true; ep_lock = false }
    :: else
    fi
}

proctype Net() {
    byte i;
    do
    :: i == EVENTS -> break
    :: atomic { i < EVENTS -> i++; net++ }
    od
}

/* np_endpoint_stop_begin, np_endpoint_stop_wait */
proctype Stop() {
    byte n, count;
    bool sleeps, seen, woke, claimed;
    stopping_phase = true;
    broadcast();
    stop_posted = true;
    wake();
    do
    :: true ->
        atomic { claimed = !dispatching; dispatching = true }
        if
        :: claimed ->                   /* finish_as_guest */
            claimed = false;
            enter_guest();
            do
            :: true ->
                drain_backlog();
                if
                :: stopped_phase -> break
                :: else -> poll(false)
                fi
            od;
            guests--;
            unclaim()
        :: else
        fi;
        atomic { !ep_lock; stop_waits = dispatching }
        !stop_waits;
#ifdef M_ASKS_FOR_THE_GUEST_FIRST
        if
        :: stopped_phase && !dispatching ->
            if
            :: backlog == 0 -> break
            :: else
            fi
        :: else
        fi
#else
        if
        :: stopped_phase && backlog == 0 ->
#ifdef M_FORGETS_THE_GUEST
            break
#else
            if
            :: !dispatching -> break
            :: else
            fi
#endif
        :: else
        fi
#endif
    od;
    joined;
    atomic { !ep_lock; port_closed = true; returned = true; assert(delivered == taken && !delivering && stopped_phase) }
}

init {
    atomic {
        run Worker();
        run Guest();
        run Quit();
        run Net();
        run Stop()
    }
}
