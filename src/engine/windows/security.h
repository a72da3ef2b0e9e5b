#ifndef NP_SECURITY_H
#define NP_SECURITY_H

#include "platform.h"

enum { NP_SDDL_MAX = 4096 };

/* Who may open the pipe, as text: what config->access stands for.  cap counts
 * characters with the final zero. */
np_code np_security_sddl(const np_config *config, wchar_t *out, size_t cap, np_error *error);
/* The same as a descriptor, which LocalFree frees. */
np_code np_security_descriptor(const np_config *config, void **out, np_error *error);

/* Whether the pipe is this process's user's.  May block. */
bool np_security_is_owner(HANDLE pipe);

#endif
