#include "frame.h"

static void put32(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

unsigned np_frame_encode(uint8_t out[NP_HEADER_MAX], uint64_t length) {
    if (length <= INT32_MAX) {
        put32(out, (uint32_t)length);
        return NP_HEADER_MIN;
    }
    put32(out, UINT32_MAX);
    put32(out + 4, (uint32_t)(length >> 32));
    put32(out + 8, (uint32_t)length);
    return NP_HEADER_MAX;
}
