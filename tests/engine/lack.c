#include "lack.h"

#include "allocations.h"
#include "atomic.h"
#include "harness.h"
#include "system.h"

enum { MOST = 3000 };               /* allocations of one conversation */

static np_atomic_u32 named;         /* errors that say that there is no memory */
static np_atomic_u32 missed;        /* things that did not come to pass */

bool lack_is_told(const np_error *e) {
    return e->code == NP_E_MEMORY || (e->code == NP_E_SYSTEM && system_is_no_memory(e->os));
}

void lack_told(void) { np_add32(&named, 1); }

void lack_missed(void) { np_add32(&missed, 1); }

void lack_note(np_code code, np_error error) {
    error.code = code;
    CHECK(lack_is_told(&error));
    lack_told();
    lack_missed();
}

void lack_end(void) { allocations_fail(0, 0); }

static void hold_once(void (*conversation)(void), uint32_t first, uint32_t count, uint32_t *hits) {
    np_store32(&named, 0);
    np_store32(&missed, 0);
    uint32_t before = allocations_failed();
    allocations_fail(first, count);
    conversation();
    lack_end();
    *hits = allocations_failed() - before;
    if (np_load32(&missed))
        CHECK(np_load32(&named) > 0);
    if (!*hits)
        CHECK_EQUAL(np_load32(&missed), 0);
}

void lack_hold(void (*conversation)(void), uint32_t count, uint32_t least) {
    uint32_t first = 0, hits = 0, told = 0;
    hold_once(conversation, MOST, count, &hits);        /* what the system keeps is there now */
    int64_t live = allocations_live();
    unsigned handles = system_handles() + system_spare_handles;
    do {
        hold_once(conversation, ++first, count, &hits);
        UNTIL(allocations_live() <= live);
        UNTIL(system_handles() <= handles);
        told += np_load32(&named) > 0;
        if (harness_failed()) {
            CHECK_EQUAL(first, 0);      /* says which it was */
            return;
        }
    } while (hits && first < MOST);
    CHECK(!hits);
    CHECK(first > least);
    CHECK(told > least / 2);
}
