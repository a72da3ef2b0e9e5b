#include "crew.h"

#include "harness.h"

static void run(void *arg) {
    struct crew_member *m = arg;
    m->crew->work(m->crew, (unsigned)(m - m->crew->members));
}

void crew_start(crew *c, unsigned count, crew_work *work, void *with) {
    *c = (crew){.with = with, .work = work, .count = count};
    REQUIRE(count <= CREW_MAX);
    for (unsigned i = 0; i < count; i++) {
        c->members[i].crew = c;
        REQUIRE_EQUAL(np_thread_start(&c->members[i].thread, run, &c->members[i]), 0);
    }
}

bool crew_goes_on(const crew *c) { return !np_load32(&c->over); }

void crew_join(crew *c) {
    for (unsigned i = 0; i < c->count; i++)
        np_thread_join(c->members[i].thread);
}

void crew_end(crew *c) {
    np_store32(&c->over, 1);
    crew_join(c);
}
