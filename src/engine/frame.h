/* The header of a message on a byte stream, as multiprocessing.connection
 * writes it: a 4-byte big-endian signed length, or -1 and an 8-byte length
 * from 2 GiB on. */
#ifndef NP_FRAME_H
#define NP_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { NP_HEADER_MIN = 4, NP_HEADER_MAX = 12 };

typedef enum np_frame_result {
    NP_FRAME_OK,
    NP_FRAME_SHORT,     /* more bytes of the header are needed */
    NP_FRAME_BAD        /* a length that can't be; *length is its bits */
} np_frame_result;

static inline void np_frame_put32(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

/* Writes the header of a message; its size. */
unsigned np_frame_encode(uint8_t out[NP_HEADER_MAX], uint64_t length);

static inline uint32_t np_frame_get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Reads a header from the n bytes at p. */
static inline np_frame_result np_frame_decode(const uint8_t *p, size_t n, unsigned *header,
                                              uint64_t *length) {
    if (n < NP_HEADER_MIN)
        return NP_FRAME_SHORT;
    uint32_t first = np_frame_get32(p);
    *length = first;
    if (first <= INT32_MAX) {
        *header = NP_HEADER_MIN;
        return NP_FRAME_OK;
    }
    if (first != UINT32_MAX)
        return NP_FRAME_BAD;
    if (n < NP_HEADER_MAX)
        return NP_FRAME_SHORT;
    *header = NP_HEADER_MAX;
    *length = (uint64_t)np_frame_get32(p + 4) << 32 | np_frame_get32(p + 8);
    return *length <= INT64_MAX ? NP_FRAME_OK : NP_FRAME_BAD;
}

#endif
