/* Threads of a test that all do the same, to an end of their own or until they
 * are told. */
#ifndef CREW_H
#define CREW_H

#include <stdbool.h>

#include "atomic.h"
#include "sync.h"

enum { CREW_MAX = 8 };

typedef struct crew crew;
typedef void crew_work(crew *c, unsigned number);       /* of the thread, from 0 */

struct crew {
    void *with;                     /* what they work with; the test's */
    crew_work *work;
    np_atomic_u32 over;
    unsigned count;
    struct crew_member {
        crew *crew;
        np_thread thread;
    } members[CREW_MAX];
};

void crew_start(crew *c, unsigned count, crew_work *work, void *with);
/* For those that go on until crew_end. */
bool crew_goes_on(const crew *c);
/* Waits until each has come to its own end. */
void crew_join(crew *c);
void crew_end(crew *c);

#endif
