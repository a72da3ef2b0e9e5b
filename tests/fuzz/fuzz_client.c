/* A manager of clients between a host and servers that do what the script says. */
#include "drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    drive(data, size, true);
    return 0;
}
