/* Every live endpoint of the process, for what concerns all: fork. */
#ifndef NP_FORK_H
#define NP_FORK_H

#include "npipes.h"

void np_fork_add(np_endpoint *endpoint);
void np_fork_remove(np_endpoint *endpoint);

#endif
