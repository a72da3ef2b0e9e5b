#include <string.h>

#include "fake.h"

np_code np_address(const char *name, char *out, size_t capacity, np_error *error) {
    size_t length = strlen(name);
    if (!length)
        return NP_E_NAME_EMPTY;
    if (length >= capacity) {
        error->value = length;
        error->limit = capacity - 1;
        return NP_E_NAME_LONG;
    }
    memcpy(out, name, length + 1);
    return NP_OK;
}
