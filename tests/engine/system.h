/* The few things the tests need of an operating system beside the client. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness.h"

/* Around all tests: a place for the names of this run. */
bool system_begin(void);
void system_end(void);

void system_sleep(unsigned milliseconds);
/* A leaf name that nobody else uses. */
void system_name(char *out, size_t capacity);
/* Whether an endpoint's waitable is signalled, or is within the time. */
bool system_waitable(intptr_t waitable, unsigned milliseconds);
/* Descriptors, or handles, that this process has. */
unsigned system_handles(void);
/* So many come and go with the system's threads. */
extern const unsigned system_spare_handles;
/* Whether an error of the system says that there is no memory. */
bool system_is_no_memory(int os);
/* Why a second server on a live name is not refused here; NULL: it is. */
const char *system_shares_names(void);

/* Tables of the tests that only this system can run; NULL ends them. */
extern const test *const system_tables[];

#endif
