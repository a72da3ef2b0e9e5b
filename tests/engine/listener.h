/* A server that knows nothing of the engine, has room for one client, and does
 * not take it until it is told to. */
#ifndef LISTENER_H
#define LISTENER_H

#include <stdbool.h>

typedef struct listener listener;

listener *listener_open(const char *address);
/* Takes a client, waiting for it, and leaves it at once. */
bool listener_drop_one(listener *l, int timeout_ms);
void listener_close(listener *l);

#endif
