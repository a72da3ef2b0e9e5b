/* How long to wait before the next attempt: twice as long after each failure,
 * up to a bound, and at random between half of that and all of it, so that
 * clients that lost their server together do not come back together. */
#ifndef NP_BACKOFF_H
#define NP_BACKOFF_H

#include <stdint.h>

typedef struct np_backoff {
    unsigned attempts;              /* since it was reset */
} np_backoff;

/* The time before the next attempt, from min_ns / 2 to max_ns.  `random` is any
 * number; min_ns is at least 1 and at most max_ns. */
int64_t np_backoff_next(np_backoff *backoff, int64_t min_ns, int64_t max_ns, uint32_t random);

#endif
