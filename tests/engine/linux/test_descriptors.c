/* Descriptors that run out, and that none is left over. */
#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

enum { DESCRIPTORS = 400 };

typedef struct hunger {
    struct rlimit before;
    int taken[DESCRIPTORS];
    unsigned count;
} hunger;

static void take_all_descriptors(hunger *h) {
    h->count = 0;
    for (int fd; h->count < DESCRIPTORS && (fd = dup(0)) >= 0;)
        h->taken[h->count++] = fd;
    CHECK_EQUAL(errno, EMFILE);
}

static void a_server_survives_a_lack_of_descriptors(void) {
    hunger h;
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *before = server_client(s);
    client_exchange(before, 100, 0);
    getrlimit(RLIMIT_NOFILE, &h.before);
    struct rlimit limit = {.rlim_cur = DESCRIPTORS, .rlim_max = h.before.rlim_max};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    take_all_descriptors(&h);
    REQUIRE(h.count > 3);
    close(h.taken[--h.count]);          /* one for the client, none for the server */
    client *waits = server_client(s);
    UNTIL(np_load64(&s->errors) >= 2);
    np_error error = server_error(s);
    CHECK_EQUAL(error.code, NP_E_SYSTEM);
    CHECK_EQUAL(error.activity, NP_DOING_ACCEPT);
    CHECK_EQUAL(error.os, EMFILE);
    CHECK_EQUAL(server_count(s), 1);
    client_exchange(before, 100, 1);
    uint64_t errors = np_load64(&s->errors);
    int64_t begin = np_now();
    system_sleep(250);
    errors = np_load64(&s->errors) - errors;
    CHECK(errors <= 3 + (uint64_t)(np_now() - begin) / 100000000);  /* it does not spin */
    while (h.count)
        close(h.taken[--h.count]);
    client_exchange(waits, 100, 2);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &h.before), 0);
    client_close(before);
    client_close(waits);
    server_end(s);
}

static void a_start_without_descriptors_fails_cleanly(void) {
    hunger h;
    server *s = server_new();
    s->config.threads = 3;
    getrlimit(RLIMIT_NOFILE, &h.before);
    struct rlimit limit = {.rlim_cur = DESCRIPTORS, .rlim_max = h.before.rlim_max};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    take_all_descriptors(&h);
    /* One more of them each time, until there are enough. */
    np_code code = NP_E_SYSTEM;
    unsigned failures = 0;
    while (code != NP_OK && h.count > DESCRIPTORS / 2) {
        np_host host = idle_host();
        np_endpoint *ep = NULL;
        np_error error = {0};
        code = np_endpoint_new(&s->config, &host, &ep, &error);
        if (code == NP_OK) {
            code = np_endpoint_listen(ep, s->name, &error);
            np_endpoint_stop_begin(ep);
            CHECK(np_endpoint_stop_wait(ep, NULL, -1));
            np_endpoint_release(ep);
        }
        if (code != NP_OK) {
            CHECK_EQUAL(code, NP_E_SYSTEM);
            CHECK_EQUAL(error.os, EMFILE);
            failures++;
        }
        close(h.taken[--h.count]);
    }
    CHECK_EQUAL(code, NP_OK);
    CHECK(failures > 5);
    while (h.count)
        close(h.taken[--h.count]);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &h.before), 0);
    server_start(s);
    server_end(s);
}

static void no_descriptor_is_left_open(void) {
    unsigned before = system_handles();
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *clients[10];
    for (unsigned i = 0; i < 10; i++) {
        clients[i] = server_client(s);
        client_exchange(clients[i], 100, i);
    }
    server_stop(s);
    for (unsigned i = 0; i < 10; i++)
        client_close(clients[i]);
    CHECK_EQUAL(system_handles(), before);
    server_release(s);
    CHECK_EQUAL(system_handles(), before);
}

const test descriptors_tests[] = {
    {"a server survives a lack of descriptors", a_server_survives_a_lack_of_descriptors,
     EVERY_MODE},
    {"a start without descriptors fails cleanly", a_start_without_descriptors_fails_cleanly,
     MODE_FREE},
    {"no descriptor is left open", no_descriptor_is_left_open, EVERY_MODE},
    {0},
};
