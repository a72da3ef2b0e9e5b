/* One run of an endpoint from its making to its end, as the script says. */
#ifndef DRIVE_H
#define DRIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A server, or a manager of clients. */
void drive(const uint8_t *data, size_t size, bool manager);

#endif
