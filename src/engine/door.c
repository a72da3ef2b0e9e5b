/* A listening end for blocking calls: see blocking.h. */
#include <stdlib.h>

#include "channel.h"

struct np_door {
    np_gate gate;
    np_turn accepting;
    np_wire_listener listener;
    np_fork_watch fork;
};

static void forked(np_fork_watch *watch) {
    np_door *door = NP_ENTRY(watch, np_door, fork);
    np_gate_forked(&door->gate);
    np_turn_forked(&door->gate, &door->accepting);
    np_wire_listener_forked(&door->listener);
    if (door->gate.closed && door->gate.users == 0)
        np_wire_unlisten(&door->listener);
}

np_code np_door_open(const np_config *config, const char *address, np_door **out,
                     np_error *error) {
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

static np_code accept_inside(np_door *door, np_wait *wait, np_channel **out, np_error *error) {
    np_code code = np_gate_arm(&door->gate, wait, error);
    np_wire wire;
    if (code == NP_OK)
        code = np_wire_accept(&door->listener, wait, &wire, &error->os);
    return code == NP_OK ? np_channel_new(&wire, out, error) : code;
}

np_code np_door_accept(np_door *door, np_wait *wait, np_channel **out, np_error *error) {
    *error = (np_error){.activity = NP_DOING_ACCEPT};
    np_code code = np_gate_enter(&door->gate, &door->accepting, wait);
    if (code == NP_OK) {
        code = accept_inside(door, wait, out, error);
        if (np_gate_leave(&door->gate, &door->accepting))
            np_wire_unlisten(&door->listener);
    }
    error->code = code;
    error->activity = NP_DOING_ACCEPT;
    return code;
}

void np_door_close(np_door *door) {
    if (np_gate_close(&door->gate))
        np_wire_unlisten(&door->listener);
}

void np_door_free(np_door *door) {
    np_door_close(door);
    np_fork_watch_remove(&door->fork);
    np_gate_destroy(&door->gate);
    free(door);
}

bool np_door_is_closed(np_door *door) { return np_gate_is_closed(&door->gate); }

intptr_t np_door_handle(const np_door *door) { return np_wire_listener_handle(&door->listener); }
