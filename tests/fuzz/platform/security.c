#include <string.h>

#include "fake.h"

np_code np_link_check_peer(const np_link *link, const np_config *config, const char *address,
                           np_error *error) {
    (void)config, (void)address;
    FUZZ_CHECK(link->open);
    if (!script_rarely(16))
        return NP_OK;
    error->value = 1000;
    return NP_E_ACCESS;
}

void np_link_peer(const np_link *link, np_peer *out) {
    FUZZ_CHECK(link->open && world.locks > 0);
    *out = (np_peer){.pid = 1, .uid = 1, .gid = 1};
}

void np_peer_look_up(np_peer *peer) {
    FUZZ_CHECK(world.locks == 0);
    memcpy(peer->user, "user", 5);
}
