#include "frame.h"

unsigned np_frame_encode(uint8_t out[NP_HEADER_MAX], uint64_t length) {
    if (length <= INT32_MAX) {
        np_frame_put32(out, (uint32_t)length);
        return NP_HEADER_MIN;
    }
    np_frame_put32(out, UINT32_MAX);
    np_frame_put32(out + 4, (uint32_t)(length >> 32));
    np_frame_put32(out + 8, (uint32_t)length);
    return NP_HEADER_MAX;
}
