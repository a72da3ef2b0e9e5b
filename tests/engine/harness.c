#include "harness.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"
#include "npipes.h"
#include "sync.h"
#include "system.h"

#define SECOND INT64_C(1000000000)
#define PATIENCE (30 * SECOND)      /* of one wait: long, as machines may be busy */
#define LIMIT (90 * SECOND)         /* of one test */
enum { FAILURES_SHOWN = 20 };       /* of one test */

static NP_THREAD_LOCAL bool is_test_thread;
static jmp_buf leave;
static mode current_mode;
static np_atomic_u32 failures;      /* of the current test */
static const char *skipped;
static np_atomic_u64 deadline;      /* 0: no test runs */
static char current[256];           /* its name; guarded by output */
static np_mutex output = NP_MUTEX_INIT;

mode harness_mode(void) { return current_mode; }

/* ---- checks ------------------------------------------------------------ */

static void fail(const char *file, int line, const char *text) {
    uint32_t before = np_add32(&failures, 1);
    if (before >= FAILURES_SHOWN)
        return;
    np_mutex_lock(&output);
    printf("    %s:%d: %s\n", file, line, text);
    if (before == FAILURES_SHOWN - 1)
        printf("    (more failures are not shown)\n");
    fflush(stdout);
    np_mutex_unlock(&output);
}

bool check_true(bool ok, const char *text, const char *file, int line) {
    if (!ok)
        fail(file, line, text);
    return ok;
}

bool check_equal(int64_t a, int64_t b, const char *a_text, const char *b_text, const char *file,
                 int line) {
    if (a == b)
        return true;
    char text[512];
    snprintf(text, sizeof text, "%s is %lld, %s is %lld", a_text, (long long)a, b_text,
             (long long)b);
    fail(file, line, text);
    return false;
}

bool harness_failed(void) { return np_load32(&failures) != 0; }

void harness_leave(void) {
    if (is_test_thread)
        longjmp(leave, 1);
}

void harness_skip(const char *why) {
    skipped = why;
    longjmp(leave, 1);
}

int64_t harness_wait_end(void) { return np_now() + PATIENCE; }

bool harness_wait(int64_t end) {
    if (np_now() > end)
        return false;
    system_sleep(1);
    return true;
}

/* ---- the watchdog ------------------------------------------------------ */

static void watch(void *arg) {
    (void)arg;
    for (;;) {
        system_sleep(100);
        int64_t end = (int64_t)np_load64(&deadline);
        if (!end || np_now() < end)
            continue;
        np_mutex_lock(&output);
        printf("TOO LONG  %s\n", current);
        fflush(stdout);
        abort();
    }
}

/* ---- running ----------------------------------------------------------- */

typedef struct totals {
    unsigned passed, failed, skipped;
} totals;

static const char *mode_name(mode m) {
    switch (m) {
    case MODE_FREE: return " [free]";
    case MODE_MANY: return " [many]";
    case MODE_RUN: return " [run]";
    case MODE_DISPATCH: return " [dispatch]";
    case MODE_DRIVE: return " [drive]";
    default: return "";
    }
}

static void run_test(const test *t, totals *sum) {
    int64_t begin = np_now();
    np_store32(&failures, 0);
    skipped = NULL;
    np_store64(&deadline, (uint64_t)(begin + LIMIT));
    if (setjmp(leave) == 0)
        t->run();
    np_store64(&deadline, 0);
    const char *result = harness_failed() ? "FAILED" : skipped ? "skipped" : "passed";
    unsigned *counter = harness_failed() ? &sum->failed : skipped ? &sum->skipped : &sum->passed;
    ++*counter;
    np_mutex_lock(&output);
    printf("%-8s %s (%.2f s)%s%s\n", result, current, (double)(np_now() - begin) / SECOND,
           skipped ? ": " : "", skipped ? skipped : "");
    fflush(stdout);
    np_mutex_unlock(&output);
}

static bool selected(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strstr(current, argv[i]))
            return true;
    return argc < 2;
}

static void run_modes(const test *t, int argc, char **argv, totals *sum) {
    unsigned modes = t->modes ? t->modes : 1;
    for (unsigned bit = 1; bit <= modes; bit <<= 1) {
        if (!(modes & bit) || (bit == MODE_DRIVE && !np_endpoint_can_be_driven()))
            continue;
        current_mode = t->modes ? (mode)bit : MODE_NONE;
        np_mutex_lock(&output);
        snprintf(current, sizeof current, "%s%s", t->name, mode_name(current_mode));
        np_mutex_unlock(&output);
        if (selected(argc, argv))
            run_test(t, sum);
    }
}

int harness_main(const test *const *const *lists, int argc, char **argv) {
    totals sum = {0};
    np_thread watchdog;
    is_test_thread = true;
    if (!system_begin() || np_thread_start(&watchdog, watch, NULL))
        return 2;
    np_thread_detach(watchdog);
    for (; *lists; lists++)
        for (const test *const *table = *lists; *table; table++)
            for (const test *t = *table; t->name; t++)
                run_modes(t, argc, argv, &sum);
    system_end();
    printf("%u passed, %u failed", sum.passed, sum.failed);
    if (sum.skipped)
        printf(", %u skipped", sum.skipped);
    printf("\n");
    fflush(stdout);
    return sum.failed || !(sum.passed + sum.skipped);
}
