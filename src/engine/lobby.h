/* Clients of a door that have yet to prove the key.  Whoever accepts goes on
 * with all of them, so that none waits for another; it has the door's turn. */
#ifndef NP_LOBBY_H
#define NP_LOBBY_H

#include "atomic.h"
#include "handshake.h"
#include "wire.h"

enum { NP_LOBBY_SIZE = 40 };        /* at once; one more tells that another waits */

typedef struct np_lobby {
    np_atomic_ptr places[NP_LOBBY_SIZE + 1];    /* of np_visitor; NULL: free */
} np_lobby;

/* Takes over the wire.  NP_E_MEMORY. */
np_code np_lobby_add(np_lobby *lobby, const np_wire *wire);
bool np_lobby_has_room(const np_lobby *lobby);
size_t np_lobby_count(const np_lobby *lobby);
/* Goes on with everybody.  NP_OK: one has proved the key, and left as *out;
 * NP_REFUSED: one has not, and was sent away; NP_E_INTERRUPTED: the host could
 * not do its part; NP_PENDING: all wait for their clients, until *deadline at
 * most. */
np_code np_lobby_work(np_lobby *lobby, const np_secrets *secrets, np_wire *out, int64_t *deadline,
                      np_error *error);
/* Those that are waited for; how many. */
size_t np_lobby_wires(const np_lobby *lobby, np_wire *out[NP_LOBBY_SIZE + 1]);
/* Sends everybody away. */
void np_lobby_clear(np_lobby *lobby);
/* In a child of fork: they are the parent's.  lost: the thread that had the turn
 * is not here, and may have been anywhere. */
void np_lobby_forked(np_lobby *lobby, bool lost);

#endif
