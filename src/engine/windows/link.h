#ifndef NP_LINK_H
#define NP_LINK_H

#include "platform.h"

/* A read ended: out has its code and bytes, and left is not 0 where the message
 * has more.  Fills in the rest. */
void np_link_read_completed(np_operation *op, np_completion *out);

#endif
