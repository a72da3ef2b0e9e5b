/* The fuzzer's bytes as decisions.  When they have run out every decision is 0,
 * which is the tame one everywhere. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void script_begin(const uint8_t *data, size_t size);
bool script_ended(void);
unsigned script_byte(void);
/* From 0 to n - 1; n is at most 256. */
unsigned script_below(unsigned n);
/* True once in n times, on average. */
bool script_rarely(unsigned n);

/* Bytes that can be told from their neighbours, at least so many. */
enum { PATTERN_SIZE = 2 << 20 };
const uint8_t *script_pattern(size_t size);

#define FUZZ_CHECK(x)                                                       \
    do {                                                                    \
        if (!(x)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                        \
        }                                                                   \
    } while (0)

#endif
