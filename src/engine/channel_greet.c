/* The handshake of a channel that was connected, before anybody else has it. */
#include "channel.h"

static np_code fail(np_error *error, np_code code, int os) {
    error->code = code;
    error->activity = NP_DOING_CONNECT;
    error->os = os;
    return code;
}

/* Only a wait that is over, or interrupted, is told from an end. */
static np_code ended(np_error *error, np_code code, int os) {
    if (code == NP_E_TIMEOUT)
        error->value = NP_E_AUTH;
    else if (code == NP_E_RESET || code == NP_E_BROKEN)
        code = NP_E_EOF;
    return fail(error, code, os);
}

static np_code send_rest(np_wire *wire, np_handshake *h, const np_wait *wait, np_error *error) {
    np_slice slice;
    while ((slice.data = np_handshake_unsent(h, &slice.size))) {
        size_t taken = 0;
        int os = 0;
        np_code code = np_wire_send(wire, &slice, 1, wait, &taken, &os);
        if (code != NP_OK)
            return ended(error, code, os);
        np_handshake_sent(h, taken);
    }
    return NP_OK;
}

static np_code receive_some(np_wire *wire, np_handshake *h, const np_wait *wait, np_error *error) {
    size_t size, got;
    uint64_t left;
    int os = 0;
    uint8_t *to = np_handshake_room(h, &size);
    np_code code = np_wire_receive(wire, to, size, wait, &got, &left, &os);
    if (code != NP_OK)
        return ended(error, code, os);
    code = np_handshake_received(h, got, left, error);
    return code == NP_OK ? NP_OK : fail(error, code, 0);
}

np_code np_channel_greet(np_channel *c, np_handshake *h, const np_secrets *secrets,
                         const np_wait *wait, np_error *error) {
    const np_wait at_once = {.deadline = NP_AT_ONCE};
    *error = (np_error){.activity = NP_DOING_CONNECT};
    for (;;) {
        np_code code = send_rest(&c->wire, h, wait, error);
        if (code != NP_OK || np_handshake_is_done(h))
            return code;
        if (!h->due) {
            code = receive_some(&c->wire, h, wait, error);
        } else if ((code = np_handshake_step(h, secrets, error)) == NP_E_AUTH) {
            np_error unused;
            send_rest(&c->wire, h, &at_once, &unused);
        }
        if (code != NP_OK)
            return fail(error, code, error->os);
    }
}
