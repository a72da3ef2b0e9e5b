#include "allocations.h"

#include <errno.h>

#include "atomic.h"

static np_atomic_u32 made, first_to_fail, end_of_failures, failed;
static np_atomic_u64 live;
static NP_THREAD_LOCAL bool is_spared;

void allocations_fail(uint32_t first, uint32_t count) {
    np_store32(&made, 0);
    np_store32(&end_of_failures, first + count);
    np_store32(&first_to_fail, first);
}

uint32_t allocations_failed(void) { return np_load32(&failed); }

bool allocations_spare(bool spared) {
    bool before = is_spared;
    is_spared = spared;
    return before;
}

int64_t allocations_live(void) { return (int64_t)np_load64(&live); }

static bool fails(void) {
    uint32_t first = np_load32(&first_to_fail);
    if (!first || is_spared)
        return false;
    uint32_t number = np_add32(&made, 1) + 1;
    if (number < first || number >= np_load32(&end_of_failures))
        return false;
    np_add32(&failed, 1);
    errno = ENOMEM;
    return true;
}

static void *counted(void *p) {
    if (p)
        np_add64(&live, 1);
    return p;
}

void *allocations_malloc(size_t size) { return fails() ? NULL : counted(malloc(size)); }

void *allocations_calloc(size_t count, size_t size) {
    return fails() ? NULL : counted(calloc(count, size));
}

void *allocations_realloc(void *p, size_t size) {
    if (fails())
        return NULL;
    void *moved = realloc(p, size);
    return p ? moved : counted(moved);
}

void allocations_free(void *p) {
    if (p)
        np_add64(&live, (uint64_t)-1);
    free(p);
}
