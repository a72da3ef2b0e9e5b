#include "lobby.h"

#include <stdlib.h>

typedef struct np_visitor {
    np_wire wire;
    np_handshake shake;
    int64_t begun, deadline;
} np_visitor;

/* ---- places ------------------------------------------------------------ */

static np_visitor *at(const np_lobby *l, size_t i) { return np_load_ptr(&l->places[i]); }

static size_t free_place(const np_lobby *l) {
    size_t i = 0;
    while (i <= NP_LOBBY_SIZE && at(l, i))
        i++;
    return i;
}

bool np_lobby_has_room(const np_lobby *l) { return free_place(l) <= NP_LOBBY_SIZE; }

/* A child of fork that looks at the places sees nobody by halves. */
np_code np_lobby_add(np_lobby *l, const np_wire *wire) {
    np_visitor *v = calloc(1, sizeof *v);
    if (!v) {
        np_wire lost = *wire;
        np_wire_close(&lost);
        return NP_E_MEMORY;
    }
    v->wire = *wire;
    v->begun = np_now();
    v->deadline = v->begun + NP_HANDSHAKE_NS;
    np_handshake_init(&v->shake, true);
    np_swap_ptr(&l->places[free_place(l)], v);
    return NP_OK;
}

static void send_away(np_lobby *l, size_t i) {
    np_visitor *v = np_swap_ptr(&l->places[i], NULL);
    if (!v)
        return;
    np_wire_close(&v->wire);
    free(v);
}

void np_lobby_clear(np_lobby *l) {
    for (size_t i = 0; i <= NP_LOBBY_SIZE; i++)
        send_away(l, i);
}

void np_lobby_forked(np_lobby *l, bool lost) {
    if (!lost) {
        np_lobby_clear(l);
        return;
    }
    for (size_t i = 0; i <= NP_LOBBY_SIZE; i++) {
        np_visitor *v = np_swap_ptr(&l->places[i], NULL);
        if (v)
            np_wire_close(&v->wire);
    }
}

size_t np_lobby_wires(const np_lobby *l, np_wire *out[NP_LOBBY_SIZE + 1]) {
    size_t n = 0;
    for (size_t i = 0; i <= NP_LOBBY_SIZE; i++)
        if (at(l, i))
            out[n++] = &at(l, i)->wire;
    return n;
}

/* ---- handshakes -------------------------------------------------------- */

static np_code left(np_error *error) {
    error->value = NP_AUTH_LEFT;
    return NP_E_AUTH;
}

/* These few bytes always fit: a client to which they don't is none. */
static np_code send_now(np_visitor *v, np_error *error) {
    const np_wait at_once = {.deadline = NP_AT_ONCE};
    np_slice slice;
    while ((slice.data = np_handshake_unsent(&v->shake, &slice.size))) {
        size_t taken = 0;
        int os;
        if (np_wire_send(&v->wire, &slice, 1, &at_once, &taken, &os) != NP_OK)
            return left(error);
        np_handshake_sent(&v->shake, taken);
    }
    return NP_OK;
}

static np_code receive_now(np_visitor *v, np_error *error) {
    size_t size, got;
    uint64_t more;
    int os;
    uint8_t *to = np_handshake_room(&v->shake, &size);
    np_code code = np_wire_receive_some(&v->wire, to, size, &got, &more, &os);
    if (code == NP_E_TIMEOUT)
        return NP_PENDING;
    return code == NP_OK ? np_handshake_received(&v->shake, got, more, error) : left(error);
}

/* As far as it goes without waiting. */
static np_code advance(np_visitor *v, const np_secrets *secrets, np_error *error) {
    np_code code = NP_OK;
    while (code == NP_OK && !np_handshake_is_done(&v->shake)) {
        if (!v->shake.due) {
            code = receive_now(v, error);
            continue;
        }
        code = np_handshake_step(&v->shake, secrets, error);
        np_error unused;
        int64_t least = np_now() + NP_HANDSHAKE_STEP_NS;
        if (code == NP_OK && v->deadline < least)
            v->deadline = least;
        if (code == NP_OK)
            code = send_now(v, error);
        else if (code == NP_E_AUTH)
            send_now(v, &unused);
    }
    return code;
}

size_t np_lobby_count(const np_lobby *l) {
    np_wire *unused[NP_LOBBY_SIZE + 1];
    return np_lobby_wires(l, unused);
}

/* When somebody has to go: sooner when another one waits, but not if it has
 * proved the key. */
static int64_t time_of(const np_visitor *v, bool crowded) {
    if (!v)
        return NP_FOREVER;
    bool soon = crowded && !np_handshake_is_proved(&v->shake);
    return soon ? v->begun + NP_HANDSHAKE_GRACE_NS : v->deadline;
}

static size_t next_to_go(const np_lobby *l, bool crowded, int64_t *when) {
    size_t found = 0;
    *when = NP_FOREVER;
    for (size_t i = 0; i <= NP_LOBBY_SIZE; i++) {
        int64_t time = time_of(at(l, i), crowded);
        if (time < *when) {
            *when = time;
            found = i;
        }
    }
    return found;
}

static np_code expire(np_lobby *l, int64_t *deadline, np_error *error) {
    bool crowded = np_lobby_count(l) > NP_LOBBY_SIZE;
    size_t i = next_to_go(l, crowded, deadline);
    if (*deadline > np_now())
        return NP_PENDING;
    crowded = crowded && !np_handshake_is_proved(&at(l, i)->shake);
    error->code = NP_E_AUTH;
    error->value = crowded ? NP_AUTH_CROWDED : NP_AUTH_SLOW;
    error->limit = crowded ? NP_LOBBY_SIZE : NP_HANDSHAKE_NS / 1000000000;
    send_away(l, i);
    return NP_REFUSED;
}

np_code np_lobby_work(np_lobby *l, const np_secrets *secrets, np_wire *out, int64_t *deadline,
                      np_error *error) {
    *deadline = NP_FOREVER;
    for (size_t i = 0; i <= NP_LOBBY_SIZE; i++) {
        np_visitor *v = at(l, i);
        np_code code = v ? advance(v, secrets, error) : NP_PENDING;
        if (code == NP_OK) {
            *out = v->wire;
            np_swap_ptr(&l->places[i], NULL);
            free(v);
            return NP_OK;
        }
        if (code == NP_E_INTERRUPTED)
            return code;
        if (code != NP_PENDING) {
            error->code = code;
            send_away(l, i);
            return NP_REFUSED;
        }
    }
    return expire(l, deadline, error);
}
