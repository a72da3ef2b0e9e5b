/* A client's connection by itself: no server, no threads. */
#include <stdlib.h>

#include "internal.h"
#include "linux_suites.h"

typedef struct bench {
    np_endpoint endpoint;
    np_worker worker;
    np_connection *connection;
} bench;

static bench *bench_new(void) {
    bench *b = calloc(1, sizeof *b);
    np_client *k = calloc(1, sizeof *k);
    np_link none;
    np_error error;
    REQUIRE(b && k);
    np_config_init(&b->endpoint.config);
    b->endpoint.config.reconnect = true;
    np_store32(&b->endpoint.refs, 1);
    np_store32(&b->endpoint.phase, NP_PHASE_RUNNING);
    b->worker.endpoint = &b->endpoint;
    np_list_init(&b->worker.timers);
    np_list_init(&b->worker.message_timers);
    b->worker.posted_tail = &b->worker.posted;
    REQUIRE_EQUAL(np_port_open(&b->worker.port, &error), NP_OK);
    REQUIRE(np_batch_open(&b->worker.batch, &b->worker));
    np_link_none(&none);
    np_connection *c = np_connection_new(&b->endpoint, &b->worker, &none);
    REQUIRE(c != NULL);
    b->connection = c;
    c->client = k;
    c->state = NP_STATE_DIALING;
    np_store32(&c->visible, NP_STATE_DIALING);
    c->write_closed = true;
    k->timeout_ns = -1;
    k->deadline = INT64_MAX;
    np_dial_init(&k->dial, c);
    return b;
}

static void bench_end(bench *b) {
    np_timer_clear(&b->connection->timer);
    np_port_close(&b->worker.port);
    np_batch_close(&b->worker.batch);
    np_connection_release(b->connection);
    free(b);
}

/* A descriptor that epoll does not take. */
static void a_link_that_cannot_be_attached_takes_no_writes(void) {
    bench *b = bench_new();
    np_connection *c = b->connection;
    np_error error;
    np_completion done = {.operation = &c->client->dial.operation};
    for (unsigned i = 0; i < 2; i++) {
        np_client_completed(c, &b->worker.batch, &done);
        CHECK_EQUAL(c->state, NP_STATE_DIALING);
        CHECK_EQUAL(np_connection_write(c, "lost", 4, NULL, NULL, &error), NP_E_CLOSED);
        CHECK_EQUAL(np_connection_pending(c), 0);
    }
    CHECK_EQUAL(b->worker.batch.count, 1);
    CHECK_EQUAL(b->worker.batch.events[0].kind, NP_EVENT_ERROR);
    CHECK_EQUAL(b->worker.batch.events[0].u.error.code, NP_E_SYSTEM);
    bench_end(b);
}

const test client_parts_tests[] = {
    {"a link that cannot be attached takes no writes",
     a_link_that_cannot_be_attached_takes_no_writes, 0},
    {0},
};
