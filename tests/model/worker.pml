/* Of close.pml: a worker, round after round, and the accepts that it is told of. */

/* ---- accept.c ---------------------------------------------------------- */

/* np_accept_completed, admit_locked */
inline accepted() {
    atomic {
        !ep_lock;
        assert(armed && !instance && !ready_accept);
#ifdef POOL
        armed = false;
#else
        armed = listening;
        instance = listening;
#endif
        last = !listening && me != 0;
        if
        :: got_accept == DONE && listening ->
            assert(!exists);
            exists = true;
            registered = true;
            link_open = true;
            refs = 1;
#ifdef HOLDS
            worker = me;
#else
            if :: worker = 0 :: worker = 1 fi;
#endif
            live[worker]++;
            mine = worker == me;
            if
            :: mine
            :: else ->
                elsewhere = true;
#ifndef M_NO_PASSING_REFERENCE
                refs++
#endif
            fi
        :: else
        fi;
        got_accept = NONE
    }
#ifndef M_NO_WAKE_OF_INSTANCE
    if
    :: last -> wake(0, false)
    :: else
    fi;
#endif
    last = false;
    if
    :: elsewhere ->
        atomic { elsewhere = false; request(R_OPEN) }
        post(false);
#ifndef M_NO_PASSING_REFERENCE
        drop()
#endif
    :: mine -> mine = false; open_connection()
    :: else
    fi
}

/* ---- worker.c ---------------------------------------------------------- */

#define DUE (events || touched || doomed || told == CONNECTED_DUE || told == DISCONNECTED_DUE)

/* is_empty */
#define EMPTY (stopping && !DUE && !other && live[me] == 0 && !(me == 0 && armed))

/* begin_stop */
inline begin_stop() {
    atomic { !ep_lock; ep_lock = true }
    if
    :: registered && worker == me -> home = true; abort_connection()
    :: else
    fi;
    ep_lock = false
}

/* As wait has it: asleep, then a look at what was there before. */
inline has_posted() {
#ifndef M_LOOKS_BEFORE_ASLEEP
    asleep[me] = true;
#endif
    sleeps = !(posted && worker == me);
    if
    :: sleeps && !stopping -> sleeps = !stop_posted[me]
    :: sleeps && stopping -> atomic { !ep_lock; sleeps = !EMPTY }
    :: else
    fi
#ifdef M_LOOKS_BEFORE_ASLEEP
    ; asleep[me] = true
#endif
}

/* What epoll has for this port. */
#define ACCEPT_DUE (client_waits && instance && listening)
#define READ_DUE (link_read && (inbox || left))
#define WRITE_DUE (home && link_write && (room > 0 || left))
#ifdef HOLDS
#define ACCEPTS_HERE (me == 0)
#else
#define ACCEPTS_HERE true
#endif
#ifdef LINGER
#define LINGER_OVER (state == DRAINING)
#else
#define LINGER_OVER false
#endif

#ifdef WAKES
#define WOKEN wake_fd[me]
#else
#define WOKEN ((posted && worker == me) || (stop_posted[me] && !stopping) \
               || (me == 0 && ready_accept) || EMPTY)
#endif

/* np_port_wait: what was cancelled, then what the system has */
inline port_wait() {
#ifdef WAKES
    if
    :: me == 0 ->
        d_step {
            if
            :: ready_accept -> ready_accept = false; got_accept = CANCELED
            :: else
            fi
        }
    :: else
    fi;
#endif
    d_step {
        if
        :: ready_read -> ready_read = false; got_read = CANCELED
        :: else
        fi;
        if
        :: ready_write -> ready_write = false; got_write = CANCELED
        :: else
        fi
    }
#ifdef HOLDS
    if                                  /* the cancel came too late */
    :: got_read == CANCELED -> got_read = DONE
    :: true
    fi;
    if
    :: got_write == CANCELED -> got_write = DONE
    :: true
    fi;
#endif
    atomic {
        if
        :: LINGER_OVER -> time_up = true
        :: (!sleeps || got_accept != NONE || got_read != NONE || got_write != NONE || WOKEN
               || (ACCEPT_DUE && ACCEPTS_HERE) || READ_DUE || WRITE_DUE || (stopping && other))
        fi;
        sleeps = false;
#ifdef WAKES
        wake_fd[me] = false;
#else
        if
        :: me == 0 && ready_accept -> ready_accept = false; got_accept = CANCELED
        :: else
        fi;
#endif
        if
        :: ACCEPT_DUE && ACCEPTS_HERE ->
            instance = false; client_waits = false; got_accept = DONE
        :: else
        fi;
        if
        :: READ_DUE ->
            link_read = false;
            got_read = (inbox -> DONE : EOF);
            inbox = false
        :: else
        fi;
        if
        :: WRITE_DUE ->
            link_write = false;
#ifdef HOLDS
            if
            :: left -> got_write = FAILED
            :: else -> room--; got_write = DONE
            fi
#else
            got_write = DONE
#endif
        :: else
        fi
    }
#ifdef WAKES
    asleep[me] = false
#endif
}

/* np_delivery_run */
inline deliver() {
    if
    :: DUE ->
        atomic {
            assert(!returned);
            if
            :: told == CONNECTED_DUE -> ALIVE; told = CONNECTED_SEEN; refs++; user_has = true
            :: else
            fi;
            events = false
        }
        if
        :: host_writes && told != NOTHING ->
            atomic {                    /* np_outbound_write in an event, soil_locked */
                !lock;
                ALIVE;
                host_writes = false;
                if
                :: write_closed
                :: else -> assert(told == CONNECTED_SEEN); out++; owed++; dirty = true
                fi
            }
        :: true
        fi;
        if
        :: told == DISCONNECTED_DUE ->
#ifdef M_RELEASES_BEFORE_DELIVERY
            drop();
#endif
            d_step { assert(owed == 0 && !freed); told = DISCONNECTED_SEEN }
#if !defined(M_EVENT_WITHOUT_REFERENCE) && !defined(M_RELEASES_BEFORE_DELIVERY)
            drop()
#endif
        :: else
        fi
    :: else
    fi;
    if                                  /* flush_dirty */
    :: dirty ->
        atomic { !lock; ALIVE; dirty = false; flush_locked() }
        post(true)
    :: else
    fi;
    if                                  /* pump_touched */
    :: touched -> pump()
    :: else
    fi;
    if
    :: doomed -> doomed = false; drop()
    :: else
    fi
}

/* np_worker_poll, round after round */
proctype Worker(byte me) {
    bool stopping;
    bool touched, dirty, events, doomed;        /* of the batch */
    mtype told = NOTHING;
    bool home;                          /* the connection is this worker's; poller only: */
    mtype state = OPENING;
    bool reading, peer_gone, write_ended;
    bool link_read, ready_read, ready_write;    /* the link waits; cancelled: in the ready list */
    mtype got_accept = NONE, got_read = NONE, got_write = NONE;
    bool sleeps, time_up, idle, no_records, nothing, last, mine, elsewhere;
    byte r, step;
#ifdef OTHERS
    bool other = true;                  /* another connection of this worker, until a stop ends it */
#else
    bool other;
#endif
#ifdef HOST_WRITES
    bool host_writes = true;
#else
    bool host_writes;
#endif
    do
    :: nothing -> break
    :: else ->
        if                              /* process_posted */
        :: atomic { posted && worker == me -> posted = false; ALIVE }
            d_step { ALIVE; r = requests; requests = 0 }
            on_requests();
            r = 0;
#ifndef M_NO_POSTED_REFERENCE
            drop()
#endif
        :: atomic { else -> skip }
        fi;
        if
        :: atomic { !stopping && stop_posted[me] -> stopping = true }
            begin_stop();
        :: atomic { else -> sleeps = !DUE }
        fi;
#ifdef WAKES
        if
        :: sleeps -> has_posted()
        :: else
        fi;
#endif
        port_wait();
        if
        :: got_accept == NONE && got_read == NONE && got_write == NONE && !time_up && !DUE
        :: else ->
            if
            :: got_accept != NONE -> accepted()
            :: else
            fi;
            if
            :: got_read != NONE -> on_read()
            :: else
            fi;
            if
            :: got_write != NONE -> write_completed(got_write)
            :: else
            fi;
            if                          /* linger_over; no other state has the timer */
            :: time_up && state == DRAINING -> abort_connection()
            :: else
            fi;
            time_up = false;
            deliver()
        fi;
#ifdef OTHERS
        if
        :: stopping -> other = false
        :: true
        fi;
#endif
        if
        :: stopping -> atomic { !ep_lock; nothing = EMPTY }
        :: else
        fi
    od;
#ifdef WAKES
    ended[me] = true;                   /* close_posted */
#endif
    atomic { closed[me] = true; nothing = false }
    if
    :: atomic { posted && worker == me -> posted = false }
#ifndef M_NO_POSTED_REFERENCE
        drop()
#endif
    :: else
    fi;
    atomic {                            /* np_endpoint_worker_drained */
        !ep_lock;
        assert(told == NOTHING || told == DISCONNECTED_SEEN);
        drained_count++;
        phase_stopped = drained_count == 2;
        exited[me] = true
    }
}
