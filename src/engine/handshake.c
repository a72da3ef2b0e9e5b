#include "handshake.h"

#include <string.h>

#include "platform.h"

enum {
    HEADER = NP_LINK_FRAMED ? NP_HEADER_MIN : 0,
    OLD_CHALLENGE = 20,             /* of Python before 3.12; shorter ones are refused */
    OLD_RESPONSE = 16,
    NONCE = NP_CHALLENGE_RANDOM / 2,
    MARK = NP_CHALLENGE_RANDOM - NONCE
};

static const char challenge_tag[] = "#CHALLENGE#", welcome[] = "#WELCOME#", failure[] = "#FAILURE#";
static const char mark_label[] = "npipes: challenge of a client";

typedef struct digest {
    const char *name;
    size_t size;
} digest;

/* Those that multiprocessing.connection allows. */
static const digest digests[] = {
    {"md5", 16}, {"sha256", 32}, {"sha384", 48}, {"sha3_256", 32}, {"sha3_384", 48},
};
static const digest *const md5 = &digests[0], *const sha256 = &digests[1];

void np_handshake_init(np_handshake *h, bool accepts) {
    *h = (np_handshake){.accepts = accepts, .due = accepts};
    h->next = accepts ? NP_STEP_BEGIN : NP_STEP_CHALLENGE;
    h->expected = HEADER;
}

/* ---- bytes ------------------------------------------------------------- */

uint8_t *np_handshake_room(np_handshake *h, size_t *size) {
    *size = (HEADER ? h->expected : sizeof h->in) - h->in_size;
    return h->in + h->in_size;
}

static np_code too_long(uint64_t size, np_error *error) {
    error->code = NP_E_PROTOCOL;
    error->value = size;
    error->limit = NP_HANDSHAKE_MAX;
    return NP_E_PROTOCOL;
}

np_code np_handshake_received(np_handshake *h, size_t size, uint64_t left, np_error *error) {
    h->in_size += size;
    if (!HEADER) {
        h->due = true;
        return left || h->in_size > NP_HANDSHAKE_MAX ? too_long(h->in_size + left, error) : NP_OK;
    }
    if (h->expected == HEADER && h->in_size == HEADER) {
        uint32_t length = np_frame_get32(h->in);
        if (length > NP_HANDSHAKE_MAX)
            return too_long(length, error);
        h->expected += length;
    }
    h->due = h->in_size == h->expected;
    return NP_OK;
}

const uint8_t *np_handshake_unsent(const np_handshake *h, size_t *size) {
    *size = h->out_size - h->sent;
    return *size ? h->out + h->sent : NULL;
}

/* A message of up to two parts. */
static void say(np_handshake *h, const void *first, size_t first_size, const void *second,
                size_t second_size) {
    uint8_t header[NP_HEADER_MAX];
    size_t at = HEADER ? np_frame_encode(header, first_size + second_size) : 0;
    memcpy(h->out, header, at);
    memcpy(h->out + at, first, first_size);
    memcpy(h->out + at + first_size, second, second_size);
    h->out_size = at + first_size + second_size;
    h->sent = 0;
}

static void say_text(np_handshake *h, const char *text) { say(h, text, strlen(text), "", 0); }

/* ---- secrets ----------------------------------------------------------- */

static np_code refuse(np_auth_reason reason, np_error *error) {
    error->code = NP_E_AUTH;
    error->value = reason;
    return NP_E_AUTH;
}

static np_code no_digest(const digest *d, np_error *error) {
    error->limit = d == md5;
    return refuse(NP_AUTH_DIGEST, error);
}

static np_code mac(const np_secrets *s, const digest *d, const uint8_t *message, size_t size,
                   uint8_t out[NP_MAC_MAX], np_error *error) {
    int n = s->mac(s->user, d->name, message, size, out);
    if (n < 0)
        return NP_E_INTERRUPTED;
    return (size_t)n == d->size ? NP_OK : no_digest(d, error);
}

/* What a client's challenge ends with. */
static np_code mark(const np_secrets *s, const uint8_t *nonce, uint8_t out[NP_MAC_MAX],
                    np_error *error) {
    uint8_t message[sizeof mark_label + NONCE];
    memcpy(message, mark_label, sizeof mark_label);
    memcpy(message + sizeof mark_label, nonce, NONCE);
    return mac(s, sha256, message, sizeof message, out, error);
}

static const uint8_t *nonce_of(const uint8_t *challenge) { return challenge + NP_DIGEST_NAME; }

static const uint8_t *mark_of(const uint8_t *challenge) {
    return challenge + NP_DIGEST_NAME + NONCE;
}

/* The digest that a message is prefixed with, and where the rest begins. */
static const digest *prefix(const uint8_t *p, size_t n, size_t *rest) {
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++) {
        size_t length = strlen(digests[i].name);
        *rest = length + 2;
        if (n >= *rest && p[0] == '{' && memcmp(p + 1, digests[i].name, length) == 0
            && p[1 + length] == '}')
            return &digests[i];
    }
    return NULL;
}

/* ---- steps ------------------------------------------------------------- */

static np_code challenge(np_handshake *h, const np_secrets *s, np_error *error) {
    uint8_t made[NP_CHALLENGE_SIZE], tag[NP_MAC_MAX];
    memcpy(made, "{sha256}", NP_DIGEST_NAME);
    if (!s->random(s->user, made + NP_DIGEST_NAME, NP_CHALLENGE_RANDOM))
        return NP_E_INTERRUPTED;
    if (!h->accepts) {
        np_code code = mark(s, nonce_of(made), tag, error);
        if (code != NP_OK)
            return code;
        memcpy(made + NP_DIGEST_NAME + NONCE, tag, MARK);
    }
    memcpy(h->challenge, made, sizeof made);
    say(h, challenge_tag, sizeof challenge_tag - 1, made, sizeof made);
    h->next = NP_STEP_RESPONSE;
    return NP_OK;
}

static np_code verify(np_handshake *h, const np_secrets *s, const uint8_t *p, size_t n,
                      np_error *error) {
    uint8_t expected[NP_MAC_MAX];
    size_t rest = 0;
    const digest *d = n == OLD_RESPONSE ? md5 : prefix(p, n, &rest);
    np_code code = NP_E_AUTH;
    if (d)
        code = mac(s, d, h->challenge, sizeof h->challenge, expected, error);
    if (code == NP_E_INTERRUPTED)
        return code;
    if (code == NP_OK && n - rest == d->size && s->equal(s->user, expected, p + rest, d->size)) {
        say_text(h, welcome);
        h->next = h->accepts ? NP_STEP_CHALLENGE : NP_STEP_DONE;
        return NP_OK;
    }
    say_text(h, failure);
    return code == NP_OK || !d ? refuse(NP_AUTH_WRONG, error) : code;
}

static np_code check_mark(const np_handshake *h, const np_secrets *s, const digest *d,
                          const uint8_t *p, size_t n, np_error *error) {
    uint8_t tag[NP_MAC_MAX];
    if (h->accepts || d != sha256 || n != NP_CHALLENGE_SIZE)
        return NP_OK;
    np_code code = mark(s, nonce_of(p), tag, error);
    if (code == NP_OK && s->equal(s->user, tag, mark_of(p), MARK))
        return refuse(NP_AUTH_MIRROR, error);
    return code;
}

static np_code answer(np_handshake *h, const np_secrets *s, const uint8_t *p, size_t n,
                      np_error *error) {
    const size_t tag = sizeof challenge_tag - 1;
    if (n < tag + OLD_CHALLENGE || memcmp(p, challenge_tag, tag) != 0)
        return refuse(NP_AUTH_FORM, error);
    p += tag;
    n -= tag;
    size_t name = 0;
    bool old = n == OLD_CHALLENGE;
    const digest *d = old ? md5 : prefix(p, n, &name);
    if (!d) {
        error->limit = 0;
        return refuse(NP_AUTH_DIGEST, error);
    }
    uint8_t response[NP_MAC_MAX];
    np_code code = check_mark(h, s, d, p, n, error);
    if (code == NP_OK)
        code = mac(s, d, p, n, response, error);
    if (code != NP_OK)
        return code;
    say(h, p, name, response, d->size);     /* the prefix is the challenge's own */
    h->next = NP_STEP_VERDICT;
    return NP_OK;
}

static np_code verdict(np_handshake *h, const np_secrets *s, const uint8_t *p, size_t n,
                       np_error *error) {
    if (n == sizeof failure - 1 && memcmp(p, failure, n) == 0)
        return refuse(NP_AUTH_REJECTED, error);
    if (n != sizeof welcome - 1 || memcmp(p, welcome, n) != 0)
        return refuse(NP_AUTH_FORM, error);
    if (!h->accepts)
        return challenge(h, s, error);
    h->next = NP_STEP_DONE;
    return NP_OK;
}

static np_code take(np_handshake *h, const np_secrets *s, const uint8_t *p, size_t n,
                    np_error *error) {
    switch (h->next) {
    case NP_STEP_BEGIN: return challenge(h, s, error);
    case NP_STEP_RESPONSE: return verify(h, s, p, n, error);
    case NP_STEP_CHALLENGE: return answer(h, s, p, n, error);
    case NP_STEP_VERDICT: return verdict(h, s, p, n, error);
    default: return NP_OK;
    }
}

np_code np_handshake_step(np_handshake *h, const np_secrets *s, np_error *error) {
    np_code code = take(h, s, h->in + HEADER, h->in_size - HEADER, error);
    if (code == NP_E_INTERRUPTED)
        return code;
    h->due = false;
    h->in_size = 0;
    h->expected = HEADER;
    return code;
}
