#ifndef NP_LISTEN_H
#define NP_LISTEN_H

#include "platform.h"

/* What CreateNamedPipe is told: dwOpenMode and dwPipeMode. */
typedef struct np_pipe_flags {
    DWORD open, mode;
} np_pipe_flags;

np_pipe_flags np_listener_flags(bool byte_mode, bool first);

/* Makes an instance, NULL on failure.  How many there are is the caller's to bound. */
HANDLE np_listener_create(const np_listener *listener, bool first, DWORD *os);

/* A wait for a client ended: fills in instance->link, or closes its handle. */
void np_listener_accepted(np_instance *instance, np_completion *out);
/* Arms `instance` with a link that was disconnected.  False: link is as it was. */
bool np_listener_arm_again(np_listener *listener, np_instance *instance, const np_link *link);

#endif
