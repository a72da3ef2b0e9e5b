/* The time between attempts, as a function and as a client keeps it by a clock
 * that stands still until it is told to move. */
#include <string.h>

#include "backoff.h"
#include "internal.h"
#include "server.h"
#include "suites.h"
#include "system.h"

#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)

static void the_delay_doubles_up_to_its_bound(void) {
    np_backoff b = {0};
    static const int64_t expected[] = {50, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++)
        CHECK_EQUAL(np_backoff_next(&b, 50 * MS, 5 * SECOND, 0), expected[i] * MS);
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQUAL(np_backoff_next(&b, 50 * MS, 5 * SECOND, 0), 5 * SECOND);
    b.attempts = 0;
    CHECK_EQUAL(np_backoff_next(&b, 50 * MS, 5 * SECOND, 0), 50 * MS);
}

static void the_jitter_is_at_most_half(void) {
    for (uint32_t random = 0;; random += 0x01010101) {
        np_backoff b = {0};
        int64_t bound = 50 * MS;
        for (unsigned i = 0; i < 12; i++) {
            int64_t delay = np_backoff_next(&b, 50 * MS, 5 * SECOND, random);
            CHECK(delay > bound / 2 - 2 && delay <= bound);
            bound = bound * 2 < 5 * SECOND ? bound * 2 : 5 * SECOND;
        }
        if (random == UINT32_MAX)
            break;
    }
}

static void bounds_may_be_as_far_as_they_can_be(void) {
    np_backoff b = {0};
    CHECK_EQUAL(np_backoff_next(&b, 1, 1, UINT32_MAX), 1);
    CHECK_EQUAL(np_backoff_next(&b, 1, 1, UINT32_MAX), 1);
    b.attempts = 500;
    CHECK_EQUAL(np_backoff_next(&b, 1, INT64_MAX, 0), INT64_MAX);
    CHECK(np_backoff_next(&b, INT64_MAX, INT64_MAX, UINT32_MAX) >= INT64_MAX / 2);
}

/* ---- with a clock ------------------------------------------------------ */

typedef struct fake_time {
    np_time_source source;
    np_atomic_u64 now;
    np_atomic_u32 draws;            /* one for each attempt that is to come */
    uint32_t random;                /* what is drawn */
    void *token;
} fake_time;

static int64_t fake_now(void *user) { return (int64_t)np_load64(&((fake_time *)user)->now); }

static uint32_t fake_random(void *user) {
    fake_time *t = user;
    np_add32(&t->draws, 1);
    return t->random;
}

/* A manager whose events this thread takes. */
static server *manager_new(fake_time *t) {
    server *m = server_new();
    *t = (fake_time){.random = t->random};
    t->source = (np_time_source){fake_now, fake_random, t};
    np_store64(&t->now, 1);
    m->dials = m->no_guest = true;
    m->config.reconnect = true;
    m->config.time = &t->source;
    server_start(m);
    t->token = server_token(m);
    return m;
}

/* Lets whatever is due happen. */
static void turn(server *m, fake_time *t) { np_endpoint_run(m->endpoint, t->token, 0); }

#define TURN_UNTIL(x)              \
    do {                           \
        UNTIL((turn(m, &t), (x))); \
    } while (0)

static void advance(server *m, fake_time *t, int64_t ns) {
    np_add64(&t->now, (uint64_t)ns);
    turn(m, t);
}

static void attempts_keep_to_the_schedule(void) {
    static const uint32_t randoms[] = {0, 0x40000000, 0x80000000, UINT32_MAX};
    for (unsigned r = 0; r < sizeof randoms / sizeof *randoms; r++) {
        fake_time t = {.random = randoms[r]};
        server *m = manager_new(&t);
        char name[64];
        system_name(name, sizeof name);
        peer *p = server_dial(m, name, 0);
        np_backoff schedule = {0};
        TURN_UNTIL(np_load32(&t.draws) == 1 && np_load64(&p->errors) == 1);
        for (unsigned i = 1; i < 15; i++) {
            int64_t delay = np_backoff_next(&schedule, m->config.reconnect_min_ns,
                                            m->config.reconnect_max_ns, t.random);
            advance(m, &t, delay - 1);
            system_sleep(2);
            turn(m, &t);
            CHECK_EQUAL(np_load32(&t.draws), i);
            advance(m, &t, 1);
            TURN_UNTIL(np_load32(&t.draws) == i + 1);
        }
        CHECK_EQUAL(np_load64(&p->errors), 1);
        CHECK(np_connection_is_opening(p->connection));
        server_end(m);
    }
}

/* The server closes; the client is back after `delay`, and not before. */
static void lose(server *m, fake_time *t_, server *s, peer *p, int64_t delay) {
    fake_time *const tp = t_;
    uint32_t lives = np_load32(&p->connected), draws = np_load32(&tp->draws);
    peer_close(server_peer(s, lives - 1));
    UNTIL((turn(m, tp), np_load32(&p->disconnected) == lives));
    UNTIL((turn(m, tp), np_load32(&tp->draws) == draws + 1));
    advance(m, tp, delay - 1);
    system_sleep(2);
    turn(m, tp);
    CHECK_EQUAL(np_load32(&p->connected), lives);
    advance(m, tp, 1);
    UNTIL((turn(m, tp), np_load32(&p->connected) == lives + 1));
}

static void only_a_connection_that_lasted_resets_the_delay(void) {
    server *s = server_new();
    server_start(s);
    fake_time t = {.random = 0};
    server *m = manager_new(&t);
    peer *p = server_dial(m, s->name, 5000);
    TURN_UNTIL(np_load32(&p->connected) == 1);
    lose(m, &t, s, p, 50 * MS);
    lose(m, &t, s, p, 100 * MS);
    lose(m, &t, s, p, 200 * MS);
    advance(m, &t, 4 * SECOND);
    lose(m, &t, s, p, 400 * MS);
    advance(m, &t, 5 * SECOND);
    lose(m, &t, s, p, 50 * MS);
    server_end(m);
    server_end(s);
}

static void the_first_wait_is_shorter(void) {
    fake_time t = {.random = 0};
    server *m = manager_new(&t);
    char name[64];
    system_name(name, sizeof name);
    peer *p = server_dial(m, name, 1000);
    int64_t waited = 0;
    uint32_t attempts = 1;
    static const int64_t delays[] = {5, 10, 20, 40, 80, 160, 200, 200, 200, 85};
    for (unsigned i = 0; i < sizeof delays / sizeof *delays; i++) {
        TURN_UNTIL(np_load32(&t.draws) == attempts);
        CHECK_EQUAL(np_load64(&p->errors), 0);
        waited += delays[i];
        advance(m, &t, delays[i] * MS);
        attempts++;
    }
    CHECK_EQUAL(waited, 1000);
    TURN_UNTIL(np_load64(&p->errors) == 1);
    CHECK_EQUAL(peer_error(p).code, NP_E_NOT_FOUND);
    server_end(m);
}

const test backoff_tests[] = {
    {"the delay doubles up to its bound", the_delay_doubles_up_to_its_bound, 0},
    {"the jitter is at most half", the_jitter_is_at_most_half, 0},
    {"bounds may be as far as they can be", bounds_may_be_as_far_as_they_can_be, 0},
    {"attempts keep to the schedule", attempts_keep_to_the_schedule, MODE_RUN},
    {"only a connection that lasted resets the delay",
     only_a_connection_that_lasted_resets_the_delay, MODE_RUN},
    {"the first wait is shorter", the_first_wait_is_shorter, MODE_RUN},
    {0},
};
