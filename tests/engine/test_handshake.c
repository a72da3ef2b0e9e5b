/* What is said in a handshake, without a connection: two ends in memory. */
#include <string.h>

#include "platform.h"
#include "secrets.h"
#include "suites.h"

enum { HEADER = NP_LINK_FRAMED ? NP_HEADER_MIN : 0 };

/* A message to the other end, `part` bytes at a time; what a step made of it. */
static np_code give(np_handshake *to, keyring *k, const void *message, size_t size, size_t part,
                    np_error *error) {
    np_secrets secrets = keyring_secrets(k);
    uint8_t framed[NP_HEADER_MIN + NP_HANDSHAKE_MAX];
    *error = (np_error){0};
    np_frame_put32(framed, (uint32_t)size);
    memcpy(framed + HEADER, message, size);
    size_t all = HEADER + size;
    for (size_t at = 0; at < all || (!HEADER && !to->due);) {
        size_t room;
        uint8_t *p = np_handshake_room(to, &room);
        CHECK(room > 0);
        CHECK(!to->due);
        size_t n = HEADER && part < room ? part : room;
        if (n > all - at)
            n = all - at;
        memcpy(p, framed + at, n);
        at += n;
        np_code code = np_handshake_received(to, n, 0, error);
        if (code != NP_OK)
            return code;
    }
    REQUIRE(to->due);
    return np_handshake_step(to, &secrets, error);
}

/* What an end has to say, without its header. */
static const uint8_t *said(np_handshake *from, size_t *size) {
    const uint8_t *p = np_handshake_unsent(from, size);
    REQUIRE(p != NULL);
    np_handshake_sent(from, *size);
    if (HEADER)
        CHECK_EQUAL(np_frame_get32(p), *size - HEADER);
    *size -= HEADER;
    return p + HEADER;
}

static np_code pass(np_handshake *from, np_handshake *to, keyring *k, size_t part,
                    np_error *error) {
    size_t size;
    const uint8_t *message = said(from, &size);
    return give(to, k, message, size, part, error);
}

static void begin(np_handshake *server, np_handshake *client, keyring *k) {
    np_secrets secrets = keyring_secrets(k);
    np_error error = {0};
    np_handshake_init(server, true);
    np_handshake_init(client, false);
    CHECK(server->due && !client->due);
    REQUIRE_EQUAL(np_handshake_step(server, &secrets, &error), NP_OK);
}

static void is_text(np_handshake *from, const char *text) {
    size_t size;
    const uint8_t *p = said(from, &size);
    CHECK_EQUAL(size, strlen(text));
    CHECK(memcmp(p, text, size) == 0);
}

/* ---- with the same key ------------------------------------------------- */

static void two_ends_with_one_key_are_done(void) {
    for (size_t part = 1; part < 100; part += 33) {
        keyring k = {.key = "secret"};
        np_handshake server, client;
        np_error error;
        begin(&server, &client, &k);
        REQUIRE_EQUAL(pass(&server, &client, &k, part, &error), NP_OK);     /* challenge */
        REQUIRE_EQUAL(pass(&client, &server, &k, part, &error), NP_OK);     /* answer */
        REQUIRE_EQUAL(pass(&server, &client, &k, part, &error), NP_OK);     /* welcome */
        CHECK(!np_handshake_is_done(&server) && !np_handshake_is_done(&client));
        REQUIRE_EQUAL(pass(&client, &server, &k, part, &error), NP_OK);     /* challenge */
        REQUIRE_EQUAL(pass(&server, &client, &k, part, &error), NP_OK);     /* answer */
        CHECK(np_handshake_is_done(&client) && !np_handshake_is_done(&server));
        REQUIRE_EQUAL(pass(&client, &server, &k, part, &error), NP_OK);     /* welcome */
        CHECK(np_handshake_is_done(&server));
        size_t size;
        CHECK(!np_handshake_unsent(&server, &size) && !np_handshake_unsent(&client, &size));
    }
}

static void no_two_challenges_are_alike(void) {
    keyring k = {.key = "secret"};
    np_handshake a, b, client;
    begin(&a, &client, &k);
    begin(&b, &client, &k);
    CHECK(memcmp(a.challenge, b.challenge, sizeof a.challenge) != 0);
    CHECK(memcmp(a.challenge, "{sha256}", NP_DIGEST_NAME) == 0);
}

static void a_step_that_the_host_could_not_take_is_taken_again(void) {
    keyring k = {.key = "secret"};
    np_secrets secrets = keyring_secrets(&k);
    np_handshake ends[2];
    np_error error = {0};
    begin(&ends[0], &ends[1], &k);
    for (unsigned i = 0; i < 6; i++) {
        np_handshake *from = &ends[i % 2], *to = &ends[(i + 1) % 2];
        np_store32(&k.failures, 1);
        np_code code = pass(from, to, &k, 7, &error);
        bool asks = np_load32(&k.failures) == 0;    /* only a welcome takes no secret */
        CHECK_EQUAL(asks, i != 5);
        np_store32(&k.failures, 0);
        CHECK_EQUAL(code, asks ? NP_E_INTERRUPTED : NP_OK);
        if (asks)
            REQUIRE_EQUAL(np_handshake_step(to, &secrets, &error), NP_OK);
    }
    CHECK(np_handshake_is_done(&ends[0]) && np_handshake_is_done(&ends[1]));
}

/* ---- old forms --------------------------------------------------------- */

static void answer_of(keyring *k, const char *digest, const void *message, size_t size,
                      uint8_t out[NP_MAC_MAX], size_t *length) {
    np_secrets s = keyring_secrets(k);
    *length = (size_t)s.mac(k, digest, message, size, out);
}

static void a_client_answers_old_and_new_challenges(void) {
    static const char *const named[] = {"md5", "sha256", "sha384", "sha3_256", "sha3_384"};
    keyring k = {.key = "secret"};
    uint8_t challenge[11 + 64] = "#CHALLENGE#0123456789abcdefghij", expected[NP_MAC_MAX];
    size_t length, size;
    np_error error;
    np_handshake h;
    np_handshake_init(&h, false);
    REQUIRE_EQUAL(give(&h, &k, challenge, 11 + 20, 99, &error), NP_OK);
    answer_of(&k, "md5", challenge + 11, 20, expected, &length);
    const uint8_t *p = said(&h, &size);
    CHECK_EQUAL(size, 16);
    CHECK(memcmp(p, expected, 16) == 0);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        np_handshake_init(&h, false);
        memset(challenge + 11, 'x', sizeof challenge - 11);
        size_t name = strlen(named[i]);
        challenge[11] = '{';
        memcpy(challenge + 12, named[i], name);
        challenge[12 + name] = '}';
        REQUIRE_EQUAL(give(&h, &k, challenge, sizeof challenge, 99, &error), NP_OK);
        answer_of(&k, named[i], challenge + 11, sizeof challenge - 11, expected, &length);
        p = said(&h, &size);
        CHECK_EQUAL(size, name + 2 + length);
        CHECK(memcmp(p, challenge + 11, name + 2) == 0);
        CHECK(memcmp(p + name + 2, expected, length) == 0);
    }
}

static void a_server_takes_old_and_new_answers(void) {
    static const char *const forms[] = {"md5",      "{md5}",      "{sha256}",
                                        "{sha384}", "{sha3_256}", "{sha3_384}"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        keyring k = {.key = "secret"};
        np_handshake server, client;
        np_error error;
        uint8_t answer[NP_MAC_MAX + 16];
        char name[16] = "md5";
        size_t prefix = i ? strlen(forms[i]) : 0, length;
        if (prefix) {
            memcpy(name, forms[i] + 1, prefix - 2);
            name[prefix - 2] = '\0';
        }
        begin(&server, &client, &k);
        memcpy(answer, forms[i], prefix);
        answer_of(&k, name, server.challenge, sizeof server.challenge, answer + prefix, &length);
        np_handshake before = server;
        REQUIRE_EQUAL(give(&server, &k, answer, prefix + length, 5, &error), NP_OK);
        is_text(&server, "#WELCOME#");
        /* One bit of it, one byte more or less of it, is not it. */
        for (int more = -1; more <= 1; more++) {
            server = before;
            if (!more)
                answer[prefix + length - 1] ^= 1;
            size_t size = (size_t)((int)(prefix + length) + more);
            CHECK_EQUAL(give(&server, &k, answer, size, 5, &error), NP_E_AUTH);
            CHECK_EQUAL(error.value, NP_AUTH_WRONG);
            is_text(&server, "#FAILURE#");
            CHECK(!np_handshake_is_done(&server));
        }
    }
}

static void without_md5_only_the_new_form_works(void) {
    keyring k = {.key = "secret", .no_md5 = true};
    np_handshake server, client;
    np_error error;
    np_handshake_init(&client, false);
    CHECK_EQUAL(give(&client, &k, "#CHALLENGE#0123456789abcdefghij", 31, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_DIGEST);
    CHECK_EQUAL(error.limit, 1);
    begin(&server, &client, &k);
    CHECK_EQUAL(give(&server, &k, "0123456789abcdef", 16, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_DIGEST);
    is_text(&server, "#FAILURE#");
    begin(&server, &client, &k);
    REQUIRE_EQUAL(pass(&server, &client, &k, 9, &error), NP_OK);
    REQUIRE_EQUAL(pass(&client, &server, &k, 9, &error), NP_OK);
    is_text(&server, "#WELCOME#");
}

/* ---- without it -------------------------------------------------------- */

static void a_wrong_key_is_refused_by_both_roles(void) {
    keyring k = {.key = "secret"}, other = {.key = "Secret"};
    np_handshake server, client;
    np_error error;
    begin(&server, &client, &k);
    REQUIRE_EQUAL(pass(&server, &client, &other, 9, &error), NP_OK);
    CHECK_EQUAL(pass(&client, &server, &k, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_WRONG);
    CHECK_EQUAL(pass(&server, &client, &other, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_REJECTED);
    /* A server that welcomes everybody has to prove it too. */
    np_handshake_init(&client, false);
    begin(&server, &client, &other);
    REQUIRE_EQUAL(pass(&server, &client, &k, 9, &error), NP_OK);
    size_t size;
    said(&client, &size);
    REQUIRE_EQUAL(give(&client, &k, "#WELCOME#", 9, 9, &error), NP_OK);
    const uint8_t *p = said(&client, &size);
    uint8_t answer[8 + NP_MAC_MAX] = "{sha256}";
    size_t length;
    answer_of(&other, "sha256", p + 11, size - 11, answer + 8, &length);
    CHECK_EQUAL(give(&client, &k, answer, 8 + length, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_WRONG);
    is_text(&client, "#FAILURE#");
}

static void what_belongs_to_no_handshake_is_refused(void) {
    static const struct {
        const char *text;
        size_t size;
        np_auth_reason reason;
    } asked[] = {
        {"", 0, NP_AUTH_FORM},
        {"hello", 5, NP_AUTH_FORM},
        {"#WELCOME#", 9, NP_AUTH_FORM},
        {"#CHALLENGE#", 11, NP_AUTH_FORM},
        {"#CHALLENGE#0123456789abcdefghi", 30, NP_AUTH_FORM},
        {"#challenge#0123456789abcdefghij", 31, NP_AUTH_FORM},
        {"#CHALLENGE#0123456789abcdefghijk", 32, NP_AUTH_DIGEST},
        {"#CHALLENGE#{sha1}0123456789abcdefghij", 37, NP_AUTH_DIGEST},
        {"#CHALLENGE#{sha256 0123456789abcdefghij", 39, NP_AUTH_DIGEST},
        {"#CHALLENGE#{}0123456789abcdefghijklmnop", 39, NP_AUTH_DIGEST},
    };
    keyring k = {.key = "secret"};
    np_handshake server, client;
    np_error error;
    size_t size;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        np_handshake_init(&client, false);
        CHECK_EQUAL(give(&client, &k, asked[i].text, asked[i].size, 9, &error), NP_E_AUTH);
        CHECK_EQUAL(error.value, asked[i].reason);
        CHECK(!np_handshake_unsent(&client, &size));
        begin(&server, &client, &k);
        said(&server, &size);
        CHECK_EQUAL(give(&server, &k, asked[i].text, asked[i].size, 9, &error), NP_E_AUTH);
        CHECK_EQUAL(error.value, NP_AUTH_WRONG);
        is_text(&server, "#FAILURE#");
    }
    np_handshake_init(&client, false);
    REQUIRE_EQUAL(give(&client, &k, "#CHALLENGE#0123456789abcdefghij", 31, 9, &error), NP_OK);
    CHECK_EQUAL(give(&client, &k, "#WELCOME?", 9, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_FORM);
}

static void long_messages_are_refused_by_their_length(void) {
    np_handshake h;
    np_error error;
    size_t room;
    np_handshake_init(&h, false);
    if (!HEADER) {
        np_handshake_room(&h, &room);
        CHECK(room >= NP_HANDSHAKE_MAX);
        CHECK_EQUAL(np_handshake_received(&h, NP_HANDSHAKE_MAX, 1, &error), NP_E_PROTOCOL);
        CHECK_EQUAL(error.value, NP_HANDSHAKE_MAX + 1);
        return;
    }
    static const uint32_t lengths[] = {257, 1 << 20, INT32_MAX, UINT32_MAX, 0x80000000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        np_handshake_init(&h, false);
        uint8_t *to = np_handshake_room(&h, &room);
        CHECK_EQUAL(room, HEADER);
        np_frame_put32(to, lengths[i]);
        CHECK_EQUAL(np_handshake_received(&h, HEADER, 0, &error), NP_E_PROTOCOL);
        CHECK_EQUAL(error.value, lengths[i]);
        CHECK_EQUAL(error.limit, NP_HANDSHAKE_MAX);
    }
    np_handshake_init(&h, false);
    np_frame_put32(np_handshake_room(&h, &room), NP_HANDSHAKE_MAX);
    CHECK_EQUAL(np_handshake_received(&h, HEADER, 0, &error), NP_OK);
    np_handshake_room(&h, &room);
    CHECK_EQUAL(room, NP_HANDSHAKE_MAX);
}

/* ---- mirrors ----------------------------------------------------------- */

static void an_echo_proves_nothing(void) {
    keyring k = {.key = "secret"};
    np_handshake server, client;
    np_error error;
    size_t size;
    begin(&server, &client, &k);
    const uint8_t *p = said(&server, &size);
    CHECK_EQUAL(give(&server, &k, p, size, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_WRONG);
}

/* Somebody without the key has one client answer what another one asked. */
static void a_client_does_not_answer_what_a_client_asked(void) {
    keyring k = {.key = "secret"};
    np_handshake first, second;
    np_error error;
    size_t size;
    np_handshake_init(&first, false);
    np_handshake_init(&second, false);
    REQUIRE_EQUAL(give(&first, &k, "#CHALLENGE#0123456789abcdefghij", 31, 9, &error), NP_OK);
    said(&first, &size);
    REQUIRE_EQUAL(give(&first, &k, "#WELCOME#", 9, 9, &error), NP_OK);
    CHECK_EQUAL(pass(&first, &second, &k, 9, &error), NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_MIRROR);
    CHECK(!np_handshake_unsent(&second, &size));
}

const test handshake_tests[] = {
    {"two ends with one key are done", two_ends_with_one_key_are_done, 0},
    {"no two challenges are alike", no_two_challenges_are_alike, 0},
    {"a step that the host could not take is taken again",
     a_step_that_the_host_could_not_take_is_taken_again, 0},
    {"a client answers old and new challenges", a_client_answers_old_and_new_challenges, 0},
    {"a server takes old and new answers", a_server_takes_old_and_new_answers, 0},
    {"without MD5 only the new form works", without_md5_only_the_new_form_works, 0},
    {"a wrong key is refused by both roles", a_wrong_key_is_refused_by_both_roles, 0},
    {"what belongs to no handshake is refused", what_belongs_to_no_handshake_is_refused, 0},
    {"long messages are refused by their length", long_messages_are_refused_by_their_length, 0},
    {"an echo proves nothing", an_echo_proves_nothing, 0},
    {"a client does not answer what a client asked", a_client_does_not_answer_what_a_client_asked,
     0},
    {0},
};
