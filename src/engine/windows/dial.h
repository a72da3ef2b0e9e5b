#ifndef NP_DIAL_H
#define NP_DIAL_H

#include "platform.h"

/* What CreateFile is told: dwFlagsAndAttributes. */
DWORD np_dial_flags(void);

/* Opens a pipe's client end; may block.  0 or GetLastError(). */
DWORD np_dial_open(const wchar_t *path, bool byte_mode, HANDLE *out);
/* What such an error means. */
np_code np_dial_code(DWORD os);

/* A dial completed: fills in its link. */
void np_dial_completed(np_dial *dial, np_completion *out);

#endif
