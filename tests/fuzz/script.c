#include "script.h"

static const uint8_t *at, *end;

void script_begin(const uint8_t *data, size_t size) {
    at = data;
    end = data + size;
}

bool script_ended(void) { return at == end; }

unsigned script_byte(void) { return at == end ? 0 : *at++; }

unsigned script_below(unsigned n) { return script_byte() % n; }

bool script_rarely(unsigned n) { return script_below(n) == n - 1; }

/* Where it begins changes with every use. */
const uint8_t *script_pattern(size_t size) {
    static uint8_t table[PATTERN_SIZE + 4096];
    static unsigned used;
    FUZZ_CHECK(size <= PATTERN_SIZE);
    if (!used) {
        uint32_t x = 1;
        for (size_t i = 0; i < sizeof table; i++) {
            x = x * 1664525 + 1013904223;
            table[i] = (uint8_t)(x >> 24);
        }
    }
    used = used % 4093 + 1;
    return table + used;
}
