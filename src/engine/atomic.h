/* Atomics: the few operations the engine needs, spelled the same for every
 * compiler.  Loads acquire, stores release, read-modify-write does both; the
 * counters behind statistics use the _relaxed forms. */
#ifndef NP_ATOMIC_H
#define NP_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_MSC_VER) && !defined(__clang__)

#include <intrin.h>

typedef struct {
    volatile long v;
} np_atomic_u32;
typedef struct {
    volatile long long v;
} np_atomic_u64;
typedef struct {
    void *volatile v;
} np_atomic_ptr;

static inline uint32_t np_load32(const np_atomic_u32 *a) {
    return (uint32_t)_InterlockedOr((volatile long *)&a->v, 0);
}
static inline void np_store32(np_atomic_u32 *a, uint32_t x) {
    _InterlockedExchange(&a->v, (long)x);
}
static inline uint32_t np_swap32(np_atomic_u32 *a, uint32_t x) {
    return (uint32_t)_InterlockedExchange(&a->v, (long)x);
}
static inline uint32_t np_add32(np_atomic_u32 *a, uint32_t x) {
    return (uint32_t)_InterlockedExchangeAdd(&a->v, (long)x);
}
static inline uint32_t np_or32(np_atomic_u32 *a, uint32_t x) {
    return (uint32_t)_InterlockedOr(&a->v, (long)x);
}
static inline bool np_cas32(np_atomic_u32 *a, uint32_t expected, uint32_t x) {
    return _InterlockedCompareExchange(&a->v, (long)x, (long)expected) == (long)expected;
}
/* Of the 64-bit intrinsics x86 has the comparing one only. */
static inline uint64_t np_load64(const np_atomic_u64 *a) {
    return (uint64_t)_InterlockedCompareExchange64((volatile long long *)&a->v, 0, 0);
}
static inline void np_store64(np_atomic_u64 *a, uint64_t x) {
    long long was = a->v, found;
    while ((found = _InterlockedCompareExchange64(&a->v, (long long)x, was)) != was)
        was = found;
}
static inline uint64_t np_add64(np_atomic_u64 *a, uint64_t x) {
    long long was = a->v, found;
    while ((found = _InterlockedCompareExchange64(&a->v, (long long)((uint64_t)was + x), was))
           != was)
        was = found;
    return (uint64_t)was;
}
static inline uint64_t np_add64_relaxed(np_atomic_u64 *a, uint64_t x) { return np_add64(a, x); }
static inline void *np_load_ptr(const np_atomic_ptr *a) {
    return _InterlockedCompareExchangePointer((void *volatile *)&a->v, NULL, NULL);
}
static inline void *np_swap_ptr(np_atomic_ptr *a, void *x) {
    return _InterlockedExchangePointer(&a->v, x);
}
static inline bool np_cas_ptr(np_atomic_ptr *a, void *expected, void *x) {
    return _InterlockedCompareExchangePointer(&a->v, x, expected) == expected;
}
#define NP_THREAD_LOCAL __declspec(thread)

#else

#include <stdatomic.h>

typedef struct {
    _Atomic uint32_t v;
} np_atomic_u32;
typedef struct {
    _Atomic uint64_t v;
} np_atomic_u64;
typedef struct {
    void *_Atomic v;
} np_atomic_ptr;

static inline uint32_t np_load32(const np_atomic_u32 *a) {
    return atomic_load_explicit(&a->v, memory_order_acquire);
}
static inline void np_store32(np_atomic_u32 *a, uint32_t x) {
    atomic_store_explicit(&a->v, x, memory_order_release);
}
static inline uint32_t np_swap32(np_atomic_u32 *a, uint32_t x) {
    return atomic_exchange_explicit(&a->v, x, memory_order_acq_rel);
}
static inline uint32_t np_add32(np_atomic_u32 *a, uint32_t x) {
    return atomic_fetch_add_explicit(&a->v, x, memory_order_acq_rel);
}
static inline uint32_t np_or32(np_atomic_u32 *a, uint32_t x) {
    return atomic_fetch_or_explicit(&a->v, x, memory_order_acq_rel);
}
static inline bool np_cas32(np_atomic_u32 *a, uint32_t expected, uint32_t x) {
    return atomic_compare_exchange_strong_explicit(&a->v, &expected, x, memory_order_acq_rel,
                                                   memory_order_acquire);
}
static inline uint64_t np_load64(const np_atomic_u64 *a) {
    return atomic_load_explicit(&a->v, memory_order_acquire);
}
static inline void np_store64(np_atomic_u64 *a, uint64_t x) {
    atomic_store_explicit(&a->v, x, memory_order_release);
}
static inline uint64_t np_add64(np_atomic_u64 *a, uint64_t x) {
    return atomic_fetch_add_explicit(&a->v, x, memory_order_acq_rel);
}
static inline uint64_t np_add64_relaxed(np_atomic_u64 *a, uint64_t x) {
    return atomic_fetch_add_explicit(&a->v, x, memory_order_relaxed);
}
static inline void *np_load_ptr(const np_atomic_ptr *a) {
    return atomic_load_explicit(&a->v, memory_order_acquire);
}
static inline void *np_swap_ptr(np_atomic_ptr *a, void *x) {
    return atomic_exchange_explicit(&a->v, x, memory_order_acq_rel);
}
static inline bool np_cas_ptr(np_atomic_ptr *a, void *expected, void *x) {
    return atomic_compare_exchange_strong_explicit(&a->v, &expected, x, memory_order_acq_rel,
                                                   memory_order_acquire);
}
#define NP_THREAD_LOCAL _Thread_local

#endif

#endif
