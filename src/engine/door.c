/* A listening end for blocking calls: see blocking.h. */
#include <stdlib.h>

#include "channel.h"
#include "lobby.h"

_Static_assert(NP_LOBBY_SIZE + 1 <= NP_WIRES_WAITED, "a lobby is waited for at once");

struct np_door {
    np_gate gate;
    np_turn accepting;          /* the gate's lock */
    np_wire_listener listener;  /* with the turn; as a channel's wire otherwise */
    np_lobby lobby;             /* with the turn */
    np_fork_watch fork;
};

static void forked(np_fork_watch *watch) {
    np_door *door = NP_ENTRY(watch, np_door, fork);
    np_gate_forked(&door->gate);
    np_lobby_forked(&door->lobby, np_turn_forked(&door->gate, &door->accepting));
    np_wire_listener_forked(&door->listener);
    if (door->gate.closed && door->gate.users == 0)
        np_wire_unlisten(&door->listener);
}

/* Nobody is inside any more. */
static void shut(np_door *door) {
    np_wire_unlisten(&door->listener);
    np_lobby_clear(&door->lobby);
}

np_code np_door_open(const np_config *config, const char *address, np_door **out, np_error *error) {
    np_door *door = calloc(1, sizeof *door);
    *error = (np_error){.activity = NP_DOING_START};
    error->code = door ? np_wire_listen(&door->listener, config, address, error) : NP_E_MEMORY;
    error->activity = NP_DOING_START;
    if (error->code != NP_OK) {
        free(door);
        return error->code;
    }
    np_gate_init(&door->gate);
    np_fork_watch_add(&door->fork, forked);
    *out = door;
    return NP_OK;
}

/* Lets those in who are there, as far as there is room. */
static np_code let_in(np_door *door, int *os) {
    const np_wait at_once = {.deadline = NP_AT_ONCE};
    np_code code = NP_OK;
    while (code == NP_OK && np_lobby_has_room(&door->lobby)) {
        np_wire wire;
        code = np_wire_accept(&door->listener, &at_once, &wire, os);
        if (code == NP_OK)
            code = np_lobby_add(&door->lobby, &wire);
    }
    return code == NP_E_TIMEOUT ? NP_OK : code;
}

static np_code wait_for_somebody(np_door *door, const np_wait *wait, int64_t deadline, int *os) {
    np_wire *wires[NP_LOBBY_SIZE + 1];
    size_t count = np_lobby_wires(&door->lobby, wires);
    np_wait until = *wait;
    if (deadline < until.deadline)
        until.deadline = deadline;
    np_code code = np_wire_listener_wait(&door->listener, np_lobby_has_room(&door->lobby), wires,
                                         count, &until, os);
    return code == NP_E_TIMEOUT && np_wait_left(wait) != 0 ? NP_OK : code;
}

/* Newcomers are let in before anybody is waited for, and after those who are
 * inside could go on. */
static np_code accept_known(np_door *door, const np_secrets *secrets, const np_wait *wait,
                            np_wire *out, np_error *error) {
    for (;;) {
        int64_t deadline;
        np_code code = np_lobby_work(&door->lobby, secrets, out, &deadline, error);
        if (code != NP_PENDING)
            return code;
        size_t before = np_lobby_count(&door->lobby);
        code = let_in(door, &error->os);
        if (code == NP_OK && np_lobby_count(&door->lobby) == before)
            code = wait_for_somebody(door, wait, deadline, &error->os);
        if (code != NP_OK)
            return code;
    }
}

static np_code accept_inside(np_door *door, const np_secrets *secrets, np_wait *wait,
                             np_channel **out, np_error *error) {
    np_code code = np_gate_arm(&door->gate, wait, error);
    np_wire wire;
    if (code == NP_OK)
        code = secrets ? accept_known(door, secrets, wait, &wire, error)
                       : np_wire_accept(&door->listener, wait, &wire, &error->os);
    return code == NP_OK ? np_channel_new(&wire, out, error) : code;
}

np_code np_door_accept(np_door *door, const np_secrets *secrets, np_wait *wait, np_channel **out,
                       np_error *error) {
    *error = (np_error){.activity = NP_DOING_ACCEPT};
    np_code code = np_gate_enter(&door->gate, &door->accepting, wait);
    if (code == NP_OK) {
        code = accept_inside(door, secrets, wait, out, error);
        if (np_gate_leave(&door->gate, &door->accepting))
            shut(door);
    }
    if (code != NP_REFUSED)
        error->code = code;
    error->activity = NP_DOING_ACCEPT;
    return code;
}

void np_door_close(np_door *door) {
    if (np_gate_close(&door->gate))
        shut(door);
}

void np_door_free(np_door *door) {
    np_door_close(door);
    np_fork_watch_remove(&door->fork);
    np_gate_destroy(&door->gate);
    free(door);
}

bool np_door_is_closed(np_door *door) { return np_gate_is_closed(&door->gate); }

intptr_t np_door_handle(np_door *door) {
    np_mutex_lock(&door->gate.lock);
    intptr_t handle = door->gate.closed ? NP_NO_HANDLE : np_wire_listener_handle(&door->listener);
    np_mutex_unlock(&door->gate.lock);
    return handle;
}
