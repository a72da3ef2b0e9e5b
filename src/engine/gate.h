/* Who may be inside an object that several threads use and any of them closes.
 *
 * A thread enters with a turn (one for each thing that only one thread may do
 * at a time) and leaves when it is done.  close() shuts the gate, wakes whoever
 * waits inside or for a turn, and the last one out ends the object: so close()
 * never waits, and nothing is taken from under a thread that uses it. */
#ifndef NP_GATE_H
#define NP_GATE_H

#include "fork.h"
#include "wire.h"

typedef struct np_turn {
    bool taken;
    uintptr_t owner;        /* thread */
} np_turn;

typedef struct np_gate {
    np_mutex lock;          /* guards all below, and the turns */
    np_cond changed;        /* a turn was given back, or the gate was shut */
    bool closed;
    unsigned users, waiting;
    bool has_wake;
    np_signal wake;         /* set by close; opened by the first that may wait */
} np_gate;

void np_gate_init(np_gate *gate);
/* No thread may be inside. */
void np_gate_destroy(np_gate *gate);

/* NP_OK: inside, with the turn.  NP_E_STATE: this thread has it already.
 * Others: how the wait for it ended. */
np_code np_gate_enter(np_gate *gate, np_turn *turn, const np_wait *wait);
/* True: the gate is shut and this was the last one inside. */
bool np_gate_leave(np_gate *gate, np_turn *turn);
/* Lets `wait` be ended by close.  Inside. */
np_code np_gate_arm(np_gate *gate, np_wait *wait, np_error *error);
/* True: nobody is inside, and it was open until now. */
bool np_gate_close(np_gate *gate);
bool np_gate_is_closed(np_gate *gate);

/* In a child of fork: only the thread that forked is there.  The turns of the
 * others are free; true if this turn was one of those. */
void np_gate_forked(np_gate *gate);
bool np_turn_forked(np_gate *gate, np_turn *turn);

#endif
