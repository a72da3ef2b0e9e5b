#include "gate.h"

/* A wait for a turn is looked at this often, as no signal of the system ends it. */
#define SLICE_NS INT64_C(50000000)

void np_gate_init(np_gate *gate) {
    *gate = (np_gate){0};
    np_mutex_init(&gate->lock);
    np_cond_init(&gate->changed);
}

static void close_wake(np_gate *gate) {
    if (gate->has_wake)
        np_signal_close(&gate->wake);
    gate->has_wake = false;
}

void np_gate_destroy(np_gate *gate) {
    close_wake(gate);
    np_cond_destroy(&gate->changed);
    np_mutex_destroy(&gate->lock);
}

/* Why the thread can't have the turn now; NP_PENDING: it may wait. */
static np_code look_locked(const np_gate *gate, const np_turn *turn, const np_wait *wait) {
    if (gate->closed)
        return NP_E_CLOSED;
    if (!turn->taken)
        return NP_OK;
    if (turn->owner == np_thread_id())
        return NP_E_STATE;
    if (wait->deadline == NP_AT_ONCE || np_wait_left(wait) == 0)
        return NP_E_TIMEOUT;
    return NP_PENDING;
}

np_code np_gate_enter(np_gate *gate, np_turn *turn, const np_wait *wait) {
    np_mutex_lock(&gate->lock);
    int64_t slice_end = 0;
    np_code code;
    while ((code = look_locked(gate, turn, wait)) == NP_PENDING) {
        int64_t now = np_now();
        if (!slice_end)
            slice_end = now + SLICE_NS;
        if (now >= slice_end) {
            code = NP_E_INTERRUPTED;
            break;
        }
        int64_t left = np_wait_left(wait);
        if (left < 0 || left > slice_end - now)
            left = slice_end - now;
        gate->waiting++;
        np_cond_wait_for(&gate->changed, &gate->lock, left);
        gate->waiting--;
    }
    if (code == NP_OK) {
        turn->taken = true;
        turn->owner = np_thread_id();
        gate->users++;
    }
    np_mutex_unlock(&gate->lock);
    return code;
}

bool np_gate_leave(np_gate *gate, np_turn *turn) {
    np_mutex_lock(&gate->lock);
    turn->taken = false;
    bool last = --gate->users == 0 && gate->closed;
    if (last)
        close_wake(gate);
    if (gate->waiting)
        np_cond_broadcast(&gate->changed);
    np_mutex_unlock(&gate->lock);
    return last;
}

np_code np_gate_arm(np_gate *gate, np_wait *wait, np_error *error) {
    np_mutex_lock(&gate->lock);
    np_code code = gate->closed ? NP_E_CLOSED : NP_OK;
    if (code == NP_OK && !gate->has_wake) {
        code = np_signal_open(&gate->wake, error);
        gate->has_wake = code == NP_OK;
    }
    np_mutex_unlock(&gate->lock);
    wait->wake = &gate->wake;
    return code;
}

bool np_gate_close(np_gate *gate) {
    np_mutex_lock(&gate->lock);
    bool first = !gate->closed;
    gate->closed = true;
    if (first && gate->has_wake)
        np_signal_set(&gate->wake);
    if (gate->waiting)
        np_cond_broadcast(&gate->changed);
    bool last = first && gate->users == 0;
    if (last)
        close_wake(gate);
    np_mutex_unlock(&gate->lock);
    return last;
}

bool np_gate_is_closed(np_gate *gate) {
    np_mutex_lock(&gate->lock);
    bool closed = gate->closed;
    np_mutex_unlock(&gate->lock);
    return closed;
}

/* The wake is shared with the parent, whose close must not end waits here. */
void np_gate_forked(np_gate *gate) {
    np_mutex_init(&gate->lock);
    np_cond_init(&gate->changed);
    gate->waiting = 0;
    close_wake(gate);
}

bool np_turn_forked(np_gate *gate, np_turn *turn) {
    if (!turn->taken || turn->owner == np_thread_id())
        return false;
    turn->taken = false;
    gate->users--;
    return true;
}
