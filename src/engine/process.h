/* Every live endpoint of the process, for what concerns all: fork. */
#ifndef NP_PROCESS_H
#define NP_PROCESS_H

#include "npipes.h"

void np_process_add(np_endpoint *endpoint);
void np_process_remove(np_endpoint *endpoint);

#endif
