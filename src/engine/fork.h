/* What lives in the process and must know of a fork. */
#ifndef NP_FORK_H
#define NP_FORK_H

#include "list.h"
#include "npipes.h"

void np_fork_add(np_endpoint *endpoint);
void np_fork_remove(np_endpoint *endpoint);

/* Something else that a child of fork goes on using. */
typedef struct np_fork_watch {
    np_node node;
    void (*in_child)(struct np_fork_watch *watch);
} np_fork_watch;

void np_fork_watch_add(np_fork_watch *watch, void (*in_child)(np_fork_watch *watch));
void np_fork_watch_remove(np_fork_watch *watch);

#endif
