/* What goes over the wire in tests: messages that can be told from another, and
 * threads that send them. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "atomic.h"
#include "client.h"
#include "harness.h"
#include "sync.h"

enum { TIMEOUT_MS = 30000 };

/* Bytes that depend on the seed and on their place. */
void pattern_fill(uint8_t *to, size_t size, unsigned seed);
bool pattern_is(const uint8_t *data, size_t size, unsigned seed);
uint8_t *pattern_new(size_t size, unsigned seed);

/* These end the test when something else comes. */
void client_expect(client *c, const char *text);
void client_expect_pattern(client *c, size_t size, unsigned seed);
/* Patterns with seeds from `first` on. */
void client_expect_patterns(client *c, size_t size, unsigned first, unsigned count);
/* Sends a message and receives it back. */
void client_exchange(client *c, size_t size, unsigned seed);

/* Connects, has so many messages echoed, and leaves.  Any thread. */
void client_visit(const char *address, unsigned exchanges);

/* A thread that sends patterns with seeds from `first` on, until it has sent
 * all, the server is gone, or sender_end is called. */
typedef struct sender {
    client *client;
    size_t size;
    unsigned first, count;
    np_atomic_u32 stop, failed;
    np_thread thread;
} sender;

void sender_start(sender *x, client *c, size_t size, unsigned first, unsigned count);
/* Waits until it has sent all.  False: the server was gone first. */
bool sender_join(sender *x);
void sender_end(sender *x);

#endif
