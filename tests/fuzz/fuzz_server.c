/* A server between a host and clients that do what the script says. */
#include "drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    drive(data, size, false);
    return 0;
}
