#include "backoff.h"

int64_t np_backoff_next(np_backoff *backoff, int64_t min_ns, int64_t max_ns, uint32_t random) {
    int64_t bound = min_ns;
    for (unsigned i = 0; i < backoff->attempts && bound < max_ns; i++)
        bound = bound > max_ns / 2 ? max_ns : bound * 2;
    backoff->attempts++;
    double part = (double)random / 4294967296.0;
    return bound - (int64_t)((double)(bound / 2) * part);
}
