/* The handshake of multiprocessing.connection, in which both ends prove that
 * they have the same key without showing it.  Only what is said: the bytes come
 * and go elsewhere (greeting.c, channel.c, lobby.c), and what takes a key is the
 * host's (np_secrets).
 *
 *   the end that accepts              the end that connects
 *   #CHALLENGE#{sha256}random   -->
 *                               <--   {sha256}HMAC of all after #CHALLENGE#
 *   #WELCOME#                   -->
 *                               <--   #CHALLENGE#{sha256}random and a mark
 *   {sha256}HMAC                -->
 *                               <--   #WELCOME#
 *
 * or #FAILURE# instead of a welcome.  Python before 3.12 challenges with 20
 * bytes and answers any challenge with 16, HMAC-MD5, without a name before them.
 *
 * Whoever accepts says nothing of the key before the peer has proved it.  Who
 * connects answers first, whatever it is asked: so that nobody has one client
 * answer what another one asks, a client's challenge has a mark that only those
 * with the key can tell, and no client answers a challenge with such a mark. */
#ifndef NP_HANDSHAKE_H
#define NP_HANDSHAKE_H

#include "frame.h"
#include "npipes.h"

enum {
    NP_HANDSHAKE_MAX = 256,         /* bytes of a message; more is no handshake's */
    NP_DIGEST_NAME = 8,             /* {sha256} */
    NP_CHALLENGE_RANDOM = 64,
    NP_CHALLENGE_SIZE = NP_DIGEST_NAME + NP_CHALLENGE_RANDOM,
    NP_HANDSHAKE_OUT = 96           /* the longest that is sent, with its header */
};

typedef enum np_handshake_step_kind {
    NP_STEP_BEGIN,                  /* this end has to say something first */
    NP_STEP_RESPONSE,               /* its challenge is out */
    NP_STEP_CHALLENGE,              /* the peer's challenge is awaited */
    NP_STEP_VERDICT,                /* its answer is out */
    NP_STEP_DONE
} np_handshake_step_kind;

typedef struct np_handshake {
    np_handshake_step_kind next;
    bool accepts;
    bool due;                       /* np_handshake_step is */
    uint8_t challenge[NP_CHALLENGE_SIZE];
    uint8_t in[NP_HEADER_MIN + NP_HANDSHAKE_MAX];
    size_t in_size, expected;       /* with the header */
    uint8_t out[NP_HANDSHAKE_OUT];
    size_t out_size, sent;
} np_handshake;

void np_handshake_init(np_handshake *h, bool accepts);

/* Where the next bytes of the peer go, and how many are wanted: where messages
 * have headers never more than this message has, so that nothing is taken that
 * belongs to what comes after the handshake. */
uint8_t *np_handshake_room(np_handshake *h, size_t *size);
/* So many came, with `left` more of the same message where the system keeps
 * boundaries.  Sets due when a message is there.  NP_E_PROTOCOL: it is too long. */
np_code np_handshake_received(np_handshake *h, size_t size, uint64_t left, np_error *error);

/* Takes the message and makes what is to be sent.  NP_E_AUTH: error->value says
 * why (np_auth_reason); what is to be sent is the peer's to know.
 * NP_E_INTERRUPTED: the host could not do its part; nothing has changed, call it
 * again.  Called with the host's lock held. */
np_code np_handshake_step(np_handshake *h, const np_secrets *secrets, np_error *error);

/* What has yet to go out, one message; data NULL: nothing. */
const uint8_t *np_handshake_unsent(const np_handshake *h, size_t *size);
static inline void np_handshake_sent(np_handshake *h, size_t size) { h->sent += size; }

/* The peer has: of an end that accepts. */
static inline bool np_handshake_is_proved(const np_handshake *h) {
    return h->next > NP_STEP_RESPONSE;
}

/* Both ends have proved the key.  What is unsent then has still to go out. */
static inline bool np_handshake_is_done(const np_handshake *h) { return h->next == NP_STEP_DONE; }

#endif
