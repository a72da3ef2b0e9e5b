/* Of close.pml: what is written to the connection, and its states, which its
 * poller moves. */

/* ---- outbound.c -------------------------------------------------------- */

/* np_outbound_flush_locked and settle_locked.  In an atomic sequence with the
 * lock held, which stays so if something is to be posted. */
inline flush_locked() {
    if
#ifdef M_WRITE_AFTER_ABORT
    :: !linked || write_error
#else
    :: !linked || aborted || write_error
#endif
    :: else ->
        do
        :: writing || out == 0 -> break
        :: !writing && out > 0 && left -> write_error = true; write_closed = true; break
#ifdef HOLDS
        :: !writing && out > 0 && !left ->
#else
        :: !writing && out > 0 && !left && room > 0 -> room--; out--; sent++
        :: !writing && out > 0 && !left && room == 0 ->
#endif
            assert(link_open && !link_write);
            writing = true;
            link_write = true
        od;
        settle_locked()
    fi
}

inline settle_locked() {
    if
    :: sent > 0 || write_error || (out == 0 && visible == DRAINING) ->
        request(R_QUEUED | (sent > 0 -> R_SENT : 0) | (write_error -> R_WRITE_END : 0))
    :: else
    fi;
    lock = step > 0
}

/* np_outbound_write on a thread that delivers no batch of the worker */
inline write_outside() {
#ifdef M_CHECKS_WITHOUT_LOCK
    refused = write_closed;
#endif
    atomic {
        !lock;
        ALIVE;
#ifndef M_CHECKS_WITHOUT_LOCK
        refused = write_closed;
#endif
        if
        :: refused
        :: else -> out++; owed++; flush_locked()
        fi
    }
    post(true)
}

/* np_outbound_completed */
inline write_completed(how) {
    atomic {
        !lock;
        ALIVE;
        assert(writing && !link_write && !ready_write);
        writing = false;
        if
        :: how == CANCELED -> settle_locked()
        :: how == FAILED -> write_error = true; write_closed = true; settle_locked()
        :: how == DONE ->
#ifdef HOLDS
            assert(out > 0); out--; sent++;
            settle_locked();
#endif
            flush_locked()
        fi;
        how = NONE;
        touched = true
    }
    post(true)
}

/* np_outbound_report.  In an atomic sequence. */
inline report() {
    assert(owed >= sent);
    owed = owed - sent;
    events = events || sent > 0;
    sent = 0
}

/* np_outbound_fail_all; what is pending owns its record */
inline fail_all() {
#ifdef HOLDS
    assert(out == 0 || !writing);
#endif
    assert(owed >= out);
    owed = owed - out;
    events = events || out > 0;
    out = 0
}

/* ---- connection.c ------------------------------------------------------ */

/* set_state; what is not the poller's of it is one step */
inline set_state(s) { d_step { state = s; visible = s } }

/* np_link_cancel.  In an atomic sequence. */
#ifdef WAKES
#define WAKE_SELF wake_fd[me] = true
#else
#define WAKE_SELF skip
#endif
inline cancel_link() {
    if :: link_read -> link_read = false; ready_read = true; WAKE_SELF :: else fi;
    if :: link_write -> link_write = false; ready_write = true; WAKE_SELF :: else fi
}

inline cancel_operations() {
    atomic {
        !lock;
        flush_locked();
#ifndef M_WRITES_STAY_OPEN
        write_closed = true;
#endif
        aborted = true;
        if
        :: linked && (reading || writing) ->
#ifndef M_NO_CANCEL
            cancel_link()
#endif
#ifdef M_CANCEL_RELEASES
            ; reading = false; writing = false
#endif
        :: else
        fi
    }
    post(true)
}

/* np_connection_abort */
inline abort_connection() {
    touched = true;
    if
    :: state == ABORTING || state == CLOSED
    :: else -> set_state(ABORTING); cancel_operations()
    fi
}

/* begin_drain */
inline begin_drain(close_writes) {
    atomic {
        !lock;
        touched = true;
        write_closed = write_closed || close_writes
    }
    if
    :: state == OPENING || state == OPEN -> set_state(DRAINING)
    :: else
    fi
}

/* np_connection_open, np_connection_established, enter_state */
inline open_connection() {
    atomic {
        ALIVE;
        if
#ifndef M_OPEN_AFTER_STOP
        :: state != OPENING
#endif
        :: state == OPENING ->          /* the peer is not let in */
            home = true; touched = true; state = ABORTING; visible = ABORTING
#ifdef M_OPEN_AFTER_STOP
        :: true ->
#else
        :: state == OPENING ->
#endif
            assert(!lock && told == NOTHING && link_open);
            home = true;
            touched = true;
            linked = true;
            state = OPEN;
            visible = OPEN;
            told = CONNECTED_DUE
        fi
    }
}

/* write_ended */
inline end_writes() {
    if
    :: write_ended || state == CLOSED
    :: else ->
        atomic { !lock; write_ended = true; events = true; fail_all() }
        visible = DRAINING;
        if
        :: state != OPEN || peer_gone -> abort_connection()
        :: else
        fi
    fi
}

/* np_connection_on_requests */
inline on_requests() {
    if
    :: r & R_OPEN -> open_connection()
    :: else
    fi;
    if
    :: state == CLOSED
    :: else ->
        if
        :: r & R_SENT -> atomic { !lock; report() }
        :: else
        fi;
        if
        :: r & R_WRITE_END -> end_writes()
        :: else
        fi;
        if
        :: r & R_CLOSE -> begin_drain(true)
        :: else
        fi;
        touched = true
    fi
}

/* np_connection_on_read, peer_left */
inline on_read() {
    assert(reading && !link_read && !ready_read);
    reading = false;
    touched = true;
    if
    :: state == OPEN && got_read == EOF -> peer_gone = true; begin_drain(false)
    :: state == OPEN && got_read != EOF -> events = events || got_read == DONE
    :: state != OPEN -> peer_gone = peer_gone || got_read == EOF
    fi;
    got_read = NONE
}

/* finish, np_accept_reuse: while there is one connection at most, the next
 * instance is armed when this one has ended. */
inline finish() {
    atomic {
        !lock;
        linked = false;
#ifndef M_WRITES_STAY_OPEN
        write_closed = true
#endif
    }
    atomic { !lock; report(); fail_all(); state = CLOSED; visible = CLOSED }
    atomic {
        !ep_lock;
        assert(registered && link_open && !linked);
        assert(!reading && !link_read && !ready_read && !writing && !link_write && !ready_write);
        peer_gone = false; write_ended = false; write_error = false; inbox = false; room = 0;
        registered = false;
        live[me]--;
        link_open = false;
#ifdef POOL
        if
        :: listening -> assert(!armed); armed = true; instance = true
        :: else
        fi;
#endif
        doomed = true;
        if
        :: told == NOTHING
        :: else ->
            assert(told == CONNECTED_SEEN);
            told = DISCONNECTED_DUE;
#ifndef M_EVENT_WITHOUT_REFERENCE
            refs++
#endif
        fi
    }
}

/* np_connection_pump */
inline pump() {
    touched = false;
    if
    :: state == OPEN && !reading && !peer_gone ->
        assert(!link_read && !ready_read);
        reading = true;
        link_read = true
    :: state == DRAINING ->
        atomic { !lock; ALIVE; no_records = out == 0 && !writing && !dirty }
        if
        :: no_records -> no_records = false; set_state(ABORTING); cancel_operations()
        :: else
        fi
    :: else
    fi;
    if
    :: state == ABORTING ->
#ifdef M_FINISH_EARLY
        finish()
#else
        atomic { !lock; ALIVE; idle = !reading && !writing }
        if
        :: idle -> idle = false; finish()
        :: else
        fi
#endif
    :: else
    fi
}
