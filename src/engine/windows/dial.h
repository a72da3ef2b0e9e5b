#ifndef NP_DIAL_H
#define NP_DIAL_H

#include "platform.h"

/* What CreateFile is told: dwFlagsAndAttributes. */
DWORD np_dial_flags(void);

/* A dial completed: fills in its link. */
void np_dial_completed(np_dial *dial, np_completion *out);

#endif
