/* A host in C of channels and doors: steps to their end, with memory of its own. */
#ifndef CALLS_H
#define CALLS_H

#include "channel.h"
#include "harness.h"

enum { FOREVER = -1 };

np_wait wait_of(int timeout_ms);
/* What a connection should be made of. */
typedef struct ends {
    np_channel *a, *b;
} ends;

ends ends_new(void);
void ends_free(ends e);

/* A listening end, and where it is. */
np_door *door_new(char address[NP_ADDRESS_MAX]);
/* A channel to it, where that is expected; ends the test when something else comes. */
np_channel *connect_to(const char *address, int timeout_ms, np_code expected);

np_code send_message(np_channel *c, const void *data, size_t size, int timeout_ms);
np_code send_pattern(np_channel *c, size_t size, unsigned seed, int timeout_ms);
/* A step by step receive until something else than memory is wanted. */
np_code receive_begin(np_channel *c, int timeout_ms, np_error *error);
/* The message is that pattern; ends the test when it is not. */
void expect_pattern(np_channel *c, size_t size, unsigned seed);
np_code receive_code(np_channel *c, int timeout_ms);
np_code poll_code(np_channel *c, int timeout_ms);
/* Gives back what the host owns of a message that did not come whole. */
void channel_end(np_channel *c);

/* A call in another thread. */
typedef struct call {
    np_channel *channel;
    np_door *door;
    np_code (*run)(struct call *call);
    size_t size;
    unsigned seed, count;
    np_code code;
    np_atomic_u32 started, ended;
    np_thread thread;
} call;

void call_start(call *c);
np_code call_join(call *c);
/* Whether it still waits after a while. */
bool call_waits(call *c);

#endif
