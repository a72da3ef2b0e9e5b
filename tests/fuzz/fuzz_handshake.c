/* Handshakes with a peer that says what the script has: the right words, nearly
 * right ones, what was said to it, and bytes.  A second reading of the protocol
 * knows what each message is worth. */
#include <string.h>

#include "handshake.h"
#include "platform.h"
#include "script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = NP_LINK_FRAMED ? NP_HEADER_MIN : 0, LONGEST = 400, TURNS = 60 };

static const bool framed = NP_LINK_FRAMED;
static const char challenge[] = "#CHALLENGE#", welcome[] = "#WELCOME#", failure[] = "#FAILURE#",
                  label[] = "npipes: challenge of a client";
static const char *const names[] = {"md5", "sha256", "sha384", "sha3_256", "sha3_384"};
static const int sizes[] = {16, 32, 48, 32, 48};

typedef struct text {
    uint8_t data[LONGEST + 8];
    size_t size;
} text;

typedef struct bench {
    np_handshake shake;
    np_secrets secrets;
    bool accepts, no_md5, proved;
    unsigned asked;
    text heard;                 /* the last message of this end */
    text coming;                /* what of the peer's has not come yet */
    size_t came;
    const uint8_t *at, *end;    /* bytes for those that are nothing else */
} bench;

/* ---- the host's part --------------------------------------------------- */

/* Now and then it can't, while the script goes on. */
static bool can(bench *b) { return !script_rarely(40) || ++b->asked > 20; }

static int digest_of(const char *name) {
    for (int i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    FUZZ_CHECK(!"a digest that multiprocessing has not");
    return -1;
}

static void fill(uint64_t x, uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(x >> 56);
    }
}

static size_t sum(const char *digest, const uint8_t *data, size_t size, uint8_t *out) {
    int which = digest_of(digest);
    uint64_t x = 99 + (uint64_t)which;
    for (size_t i = 0; i < size; i++)
        x = (x ^ data[i]) * UINT64_C(1099511628211);
    fill(x, out, (size_t)sizes[which]);
    return (size_t)sizes[which];
}

static int mac(void *user, const char *digest, const uint8_t *message, size_t size,
               uint8_t out[NP_MAC_MAX]) {
    bench *b = user;
    if (!can(b))
        return -1;
    if (b->no_md5 && strcmp(digest, "md5") == 0)
        return 0;
    return (int)sum(digest, message, size, out);
}

static bool random_bytes(void *user, uint8_t *out, size_t size) {
    fill(7, out, size);
    return can(user);
}

static bool equal(void *user, const uint8_t *a, const uint8_t *b, size_t size) {
    (void)user;
    return memcmp(a, b, size) == 0;
}

/* ---- what a message is worth ------------------------------------------- */

static bool is(const uint8_t *p, size_t n, const char *words) {
    return n == strlen(words) && memcmp(p, words, n) == 0;
}

/* The digest that is named, or -1; where the rest begins. */
static int named(const uint8_t *p, size_t n, size_t *rest) {
    for (int i = 0; i < 5; i++) {
        char prefix[16];
        *rest = (size_t)snprintf(prefix, sizeof prefix, "{%s}", names[i]);
        if (n >= *rest && memcmp(p, prefix, *rest) == 0)
            return i;
    }
    *rest = 0;
    return -1;
}

/* The answer that a challenge asks for; size 0: none. */
static text answer_to(const uint8_t *p, size_t n) {
    text out = {.size = 0};
    size_t rest;
    int which = named(p, n, &rest);
    if (which < 0 && n == 20)
        which = 0;
    if (which < 0)
        return out;
    memcpy(out.data, p, rest);
    out.size = rest + sum(names[which], p, n, out.data + rest);
    return out;
}

static bool is_answer(const bench *b, const uint8_t *p, size_t n) {
    uint8_t right[NP_MAC_MAX];
    size_t rest;
    int which = named(p, n, &rest);
    if (n == 16) {
        which = 0;
        rest = 0;
    }
    return which >= 0 && !(b->no_md5 && which == 0)
           && n - rest == sum(names[which], b->shake.challenge, NP_CHALLENGE_SIZE, right)
           && memcmp(p + rest, right, n - rest) == 0;
}

static void mark(uint8_t challenge_of_72[NP_CHALLENGE_SIZE]) {
    uint8_t message[sizeof label + 32];
    memcpy(message, label, sizeof label);
    memcpy(message + sizeof label, challenge_of_72 + 8, 32);
    sum("sha256", message, sizeof message, challenge_of_72 + 40);
}

static bool is_marked(const uint8_t *p, size_t n) {
    uint8_t right[NP_CHALLENGE_SIZE];
    if (n != sizeof right || memcmp(p, "{sha256}", 8) != 0)
        return false;
    memcpy(right, p, n);
    mark(right);
    return memcmp(p, right, n) == 0;
}

/* ---- this end ---------------------------------------------------------- */

/* Everything that is unsent, in pieces; it is one message. */
static void hear(bench *b) {
    text got = {.size = 0};
    const uint8_t *data;
    size_t size;
    while ((data = np_handshake_unsent(&b->shake, &size))) {
        size_t n = script_below(2) ? 1 : size;
        FUZZ_CHECK(got.size + size <= NP_HANDSHAKE_OUT);
        memcpy(got.data + got.size, data, n);
        got.size += n;
        np_handshake_sent(&b->shake, n);
    }
    if (!got.size)
        return;
    FUZZ_CHECK(got.size > HEADER);
    FUZZ_CHECK(!framed || np_frame_get32(got.data) == got.size - HEADER);
    b->heard = got;
    b->heard.size -= HEADER;
    memmove(b->heard.data, got.data + HEADER, b->heard.size);
}

static void check_failure(const bench *b, np_handshake_step_kind step, const uint8_t *p, size_t n,
                          const np_error *error) {
    const size_t tag = sizeof challenge - 1;
    switch (step) {
    case NP_STEP_RESPONSE:
        FUZZ_CHECK(!is_answer(b, p, n));
        FUZZ_CHECK(is(b->heard.data, b->heard.size, failure));
        break;
    case NP_STEP_CHALLENGE:
        if (n < tag + 20 || memcmp(p, challenge, tag) != 0)
            FUZZ_CHECK(error->value == NP_AUTH_FORM);
        else if (!b->accepts && is_marked(p + tag, n - tag))
            FUZZ_CHECK(error->value == NP_AUTH_MIRROR);
        else
            FUZZ_CHECK(error->value == NP_AUTH_DIGEST
                       && (b->no_md5 || !answer_to(p + tag, n - tag).size));
        break;
    default: FUZZ_CHECK(step == NP_STEP_VERDICT && !is(p, n, welcome)); break;
    }
}

static void check_success(bench *b, np_handshake_step_kind step, const uint8_t *p, size_t n) {
    const size_t tag = sizeof challenge - 1;
    text right = {.size = 0};
    switch (step) {
    case NP_STEP_BEGIN: FUZZ_CHECK(b->accepts && !b->heard.size); break;
    case NP_STEP_RESPONSE:
        FUZZ_CHECK(is_answer(b, p, n));
        b->proved = true;
        break;
    case NP_STEP_CHALLENGE:
        FUZZ_CHECK(n > tag && memcmp(p, challenge, tag) == 0);
        FUZZ_CHECK(b->accepts || !is_marked(p + tag, n - tag));
        right = answer_to(p + tag, n - tag);
        FUZZ_CHECK(right.size);
        break;
    default: FUZZ_CHECK(step == NP_STEP_VERDICT && is(p, n, welcome)); break;
    }
    np_handshake_step_kind last = b->accepts ? NP_STEP_VERDICT : NP_STEP_RESPONSE;
    FUZZ_CHECK(np_handshake_is_done(&b->shake) == (step == last));
    hear(b);
    if (right.size)
        FUZZ_CHECK(b->heard.size == right.size
                   && memcmp(b->heard.data, right.data, right.size) == 0);
}

/* False: it has ended. */
static bool step(bench *b) {
    uint8_t said[NP_HANDSHAKE_MAX + NP_HEADER_MIN];
    np_handshake_step_kind before = b->shake.next;
    size_t n = before == NP_STEP_BEGIN ? 0 : b->shake.in_size - HEADER;
    np_error error = {0};
    memcpy(said, b->shake.in + HEADER, n);
    np_code code = np_handshake_step(&b->shake, &b->secrets, &error);
    if (code == NP_E_INTERRUPTED) {
        FUZZ_CHECK(b->shake.due && b->shake.next == before);
        return true;
    }
    FUZZ_CHECK(!b->shake.due);
    if (code == NP_OK) {
        check_success(b, before, said, n);
    } else {
        FUZZ_CHECK(code == NP_E_AUTH && error.code == NP_E_AUTH);
        hear(b);
        check_failure(b, before, said, n, &error);
    }
    FUZZ_CHECK(np_handshake_is_proved(&b->shake) <= (b->proved || !b->accepts));
    return code == NP_OK && !np_handshake_is_done(&b->shake);
}

/* ---- the peer ---------------------------------------------------------- */

static void add(text *t, const void *data, size_t size) {
    size = size < LONGEST - t->size ? size : LONGEST - t->size;
    memcpy(t->data + t->size, data, size);
    t->size += size;
}

static text rest_of(bench *b, size_t most) {
    text t = {.size = 0};
    size_t n = (size_t)(b->end - b->at);
    n = n < most ? n : most;
    add(&t, b->at, n);
    b->at += n;
    return t;
}

/* What a peer with the key would say now. */
static text right_words(bench *b) {
    const size_t tag = sizeof challenge - 1;
    text t = {.size = 0};
    uint8_t made[NP_CHALLENGE_SIZE];
    switch (b->shake.next) {
    case NP_STEP_RESPONSE:
        if (script_below(2)) {
            uint8_t old[NP_MAC_MAX];
            add(&t, old, sum("md5", b->shake.challenge, NP_CHALLENGE_SIZE, old));
        } else {
            t = answer_to(b->heard.data + tag, b->heard.size - tag);
        }
        break;
    case NP_STEP_CHALLENGE:
        memcpy(made, "{sha256}", 8);
        fill(script_byte(), made + 8, sizeof made - 8);
        if (script_below(2))
            mark(made);
        add(&t, challenge, tag);
        if (script_below(2)) {
            add(&t, made + 8, 20);
        } else {
            add(&t, made, sizeof made);
        }
        break;
    default: add(&t, welcome, sizeof welcome - 1); break;
    }
    return t;
}

static text words(bench *b) {
    text t = {.size = 0};
    unsigned kind = script_below(8);
    if (kind < 4)
        t = right_words(b);
    else if (kind == 4)
        t = b->heard;
    else if (kind == 5)
        add(&t, failure, sizeof failure - 1);
    else
        t = rest_of(b, script_byte() + 30);
    if (script_rarely(4) && t.size > 2)
        t.size += 2 - script_below(5);
    if (script_rarely(4) && t.size)
        t.data[script_byte() % t.size] ^= (uint8_t)(1 << script_below(8));
    return t;
}

/* The next message, or bytes that are none. */
static void speak(bench *b) {
    text t = words(b);
    b->coming = (text){.size = 0};
    b->came = 0;
    if (framed && !script_rarely(8)) {
        uint8_t header[NP_HEADER_MAX];
        add(&b->coming, header, np_frame_encode(header, t.size));
    }
    add(&b->coming, t.data, t.size);
}

/* Some of it.  False: it has ended. */
static bool take(bench *b) {
    size_t room, left = b->coming.size - b->came;
    uint8_t *to = np_handshake_room(&b->shake, &room);
    FUZZ_CHECK(room > 0 && to >= b->shake.in && to + room <= b->shake.in + sizeof b->shake.in);
    size_t n = framed && script_below(2) ? 1 : left;
    n = n < left ? n : left;
    n = n < room ? n : room;
    memcpy(to, b->coming.data + b->came, n);
    b->came += n;
    np_error error = {0};
    np_code code = np_handshake_received(&b->shake, n, framed ? 0 : left - n, &error);
    if (!framed)
        b->came = b->coming.size;
    if (code == NP_OK)
        return true;
    FUZZ_CHECK(code == NP_E_PROTOCOL && error.limit == NP_HANDSHAKE_MAX
               && error.value > NP_HANDSHAKE_MAX);
    FUZZ_CHECK(framed || error.value == left);
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t script = size - size / 2;
    bench b = {.at = data + script, .end = data + size};
    script_begin(data, script);
    b.secrets = (np_secrets){&b, random_bytes, mac, equal};
    b.accepts = script_below(2);
    b.no_md5 = script_rarely(4);
    np_handshake_init(&b.shake, b.accepts);
    FUZZ_CHECK(b.shake.due == b.accepts);
    bool goes_on = true;
    for (int turn = 0; goes_on && turn < 8 * TURNS; turn++) {
        if (b.shake.due) {
            goes_on = step(&b);
        } else if (b.came < b.coming.size) {
            goes_on = take(&b);
        } else {
            speak(&b);
            goes_on = b.coming.size || !script_ended();
        }
    }
    FUZZ_CHECK(!np_handshake_is_done(&b.shake) || b.proved);
    return 0;
}
