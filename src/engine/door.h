/* A door: the listening end of an address, used by blocking calls.  One thread
 * accepts at a time, others wait for their turn.  Any thread may close. */
#ifndef NP_DOOR_H
#define NP_DOOR_H

#include "channel.h"

typedef struct np_door {
    np_gate gate;
    np_turn accepting;
    np_wire_listener listener;
    np_fork_watch fork;
} np_door;

/* Listens on an address (of np_address) for those whom config->access lets in. */
np_code np_door_open(const np_config *config, const char *address, np_door **out,
                     np_error *error);
/* Waits for a client.  A wait that ends without one loses nobody. */
np_code np_door_accept(np_door *door, np_wait *wait, np_channel **out, np_error *error);
/* Waits are ended, and the address is withdrawn when the last one has left. */
void np_door_close(np_door *door);
/* Closes and frees.  Nobody may be inside. */
void np_door_free(np_door *door);

#endif
