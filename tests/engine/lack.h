/* Conversations that lack memory: each is held again and again, and each time
 * another allocation of it fails, or several one after the other, until it comes
 * to its end before the one that was to fail.  Whatever has failed must be told
 * of, or have a way around, and nothing may be left. */
#ifndef LACK_H
#define LACK_H

#include <stdbool.h>
#include <stdint.h>

#include "npipes.h"

/* `count` in a row fail; there are `least` allocations at least. */
void lack_hold(void (*conversation)(void), uint32_t count, uint32_t least);
/* The rest of the conversation lacks nothing. */
void lack_end(void);

/* What happens in a conversation.  Any thread. */
bool lack_is_told(const np_error *error);       /* it says that there is no memory */
void lack_told(void);
void lack_missed(void);                         /* something did not come to pass */
/* Both, by a failure that must tell of it. */
void lack_note(np_code code, np_error error);

#endif
