/* Names, and endpoints that did not start. */
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "server.h"
#include "suites.h"
#include "system.h"

static np_atomic_u32 released_count;

static bool deliver(void *user, void *thread, np_event *events, size_t count) {
    (void)user, (void)thread, (void)events, (void)count;
    CHECK(false);
    return true;
}

static void count_release(void *user) {
    (void)user;
    np_add32(&released_count, 1);
}

/* An endpoint that has no business to deliver anything. */
static np_endpoint *endpoint_new(bool marshalled) {
    np_config config;
    np_config_init(&config);
    config.marshalled = marshalled;
    np_host host = idle_host();
    host.deliver = deliver;
    host.released = count_release;
    np_endpoint *ep = NULL;
    np_error error;
    np_store32(&released_count, 0);
    REQUIRE_EQUAL(np_endpoint_new(&config, &host, &ep, &error), NP_OK);
    return ep;
}

static void release(np_endpoint *ep) {
    CHECK_EQUAL(np_load32(&released_count), 0);
    np_endpoint_release(ep);
    CHECK_EQUAL(np_load32(&released_count), 1);
}

static void defaults_are_those_of_the_design(void) {
    np_config c;
    np_config_init(&c);
    CHECK_EQUAL(c.threads, 1);
    CHECK_EQUAL(c.message_buffer_size, 131072);
    CHECK(c.continuous_read);
    CHECK(!c.marshalled && !c.byte_mode && !c.want_sent);
    CHECK_EQUAL(c.max_instances, 0);
    CHECK_EQUAL(c.listeners, 8);
    CHECK_EQUAL(c.max_message_size, 64 << 20);
    CHECK_EQUAL(c.write_high_water, 1 << 20);
    CHECK_EQUAL(c.max_pending_bytes, 64 << 20);
    CHECK_EQUAL(c.kernel_buffer_size, 0);
    CHECK_EQUAL(c.spin_us, 0);
    CHECK_EQUAL(c.access, NP_ACCESS_USER);
}

static void an_endpoint_that_never_listened_is_harmless(void) {
    for (unsigned marshalled = 0; marshalled < 2; marshalled++) {
        np_endpoint *ep = endpoint_new(marshalled);
        np_stats stats;
        CHECK(!np_endpoint_is_running(ep));
        CHECK(!np_endpoint_is_inside(ep));
        np_endpoint_quit(ep);
        np_endpoint_interrupt(ep);
        np_endpoint_discard(ep);
        CHECK_EQUAL(np_endpoint_run(ep, ep, -1), NP_RUN_STOPPED);
        CHECK_EQUAL(np_endpoint_dispatch(ep, ep, -1), 0);
        CHECK_EQUAL(np_endpoint_broadcast(ep, NULL, NULL, NULL, NULL), 0);
        np_endpoint_stats(ep, &stats);
        CHECK_EQUAL(stats.connections_total, 0);
        np_endpoint_stop_begin(ep);
        CHECK(np_endpoint_stop_wait(ep, ep, -1));
        np_endpoint_retain(ep);
        np_endpoint_release(ep);
        release(ep);
    }
}

static void names_that_cannot_be_say_why(void) {
    char out[NP_ADDRESS_MAX];
    char name[400];
    np_error error = {0};
    CHECK_EQUAL(np_address("", out, sizeof out, &error), NP_E_NAME_EMPTY);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    CHECK_EQUAL(np_address(name, out, sizeof out, &error), NP_E_NAME_LONG);
    CHECK(error.value >= sizeof name - 1);
    CHECK(error.limit > 0 && error.limit < error.value);
    np_endpoint *ep = endpoint_new(false);
    CHECK_EQUAL(np_endpoint_listen(ep, name, &error), NP_E_NAME_LONG);
    CHECK_EQUAL(error.activity, NP_DOING_START);
    release(ep);
}

static void an_address_stands_for_itself(void) {
    char once[NP_ADDRESS_MAX], twice[NP_ADDRESS_MAX];
    np_error error = {0};
    REQUIRE_EQUAL(np_address("leaf", once, sizeof once, &error), NP_OK);
    CHECK(strlen(once) > 4 && strcmp(once + strlen(once) - 4, "leaf") == 0);
    REQUIRE_EQUAL(np_address(once, twice, sizeof twice, &error), NP_OK);
    CHECK(strcmp(once, twice) == 0);
}

static void a_live_name_is_refused(void) {
    if (system_shares_names())
        harness_skip(system_shares_names());
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    for (unsigned i = 0; i < 3; i++) {
        np_error error = {0};
        np_endpoint *second = endpoint_new(i == 1);
        CHECK_EQUAL(np_endpoint_listen(second, s->name, &error), NP_E_EXISTS);
        CHECK_EQUAL(error.activity, NP_DOING_START);
        CHECK_EQUAL(np_endpoint_listen(second, s->name, &error), NP_E_STATE);
        CHECK(!np_endpoint_is_running(second));
        CHECK(np_endpoint_stop_wait(second, second, -1));
        release(second);
    }
    client *c = server_client(s);
    client_exchange(c, 100, 1);
    client_close(c);
    server_end(s);
}

static void an_endpoint_listens_once(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    np_error error;
    char other[64];
    system_name(other, sizeof other);
    CHECK_EQUAL(np_endpoint_listen(s->endpoint, other, &error), NP_E_STATE);
    client *c = server_client(s);
    client_exchange(c, 100, 1);
    client_close(c);
    server_stop(s);
    CHECK_EQUAL(np_endpoint_listen(s->endpoint, other, &error), NP_E_STATE);
    server_release(s);
}

/* READY comes once, and before anything of a client. */
static np_atomic_u32 events_before_ready;

static void note_ready(peer *p, np_event *e) {
    if (p && !np_load32(&p->server->ready))
        np_add32(&events_before_ready, 1);
    CHECK(e->kind != NP_EVENT_ERROR);
}

static void ready_comes_first(void) {
    np_store32(&events_before_ready, 0);
    for (unsigned i = 0; i < 10; i++) {
        server *s = server_new();
        s->on_event = note_ready;
        server_start(s);
        client *c = server_client(s);
        server_peer(s, 0);
        client_close(c);
        server_end(s);
    }
    if (harness_mode() != MODE_MANY)
        CHECK_EQUAL(np_load32(&events_before_ready), 0);
}

static void servers_live_side_by_side(void) {
    enum { SERVERS = 5 };
    server *servers[SERVERS];
    client *clients[SERVERS];
    for (unsigned i = 0; i < SERVERS; i++) {
        servers[i] = server_new();
        servers[i]->on_event = server_echo;
        server_start(servers[i]);
    }
    for (unsigned i = 0; i < SERVERS; i++)
        clients[i] = server_client(servers[i]);
    for (unsigned i = 0; i < SERVERS; i++)
        client_exchange(clients[i], 100, i);
    for (unsigned i = 0; i < SERVERS; i++) {
        server_end(servers[i]);
        client_close(clients[i]);
    }
}

const test start_tests[] = {
    {"defaults are those of the design", defaults_are_those_of_the_design, 0},
    {"an endpoint that never listened is harmless", an_endpoint_that_never_listened_is_harmless, 0},
    {"names that cannot be say why", names_that_cannot_be_say_why, 0},
    {"an address stands for itself", an_address_stands_for_itself, 0},
    {"a live name is refused", a_live_name_is_refused, EVERY_MODE},
    {"an endpoint listens once", an_endpoint_listens_once, EVERY_MODE},
    {"READY comes first", ready_comes_first, EVERY_MODE},
    {"servers live side by side", servers_live_side_by_side, EVERY_MODE},
    {0},
};
