/* A small test harness: tests are functions with a sentence for a name, kept
 * in tables.  A check that fails is printed with its place and its values; the
 * test goes on after CHECK and ends at REQUIRE and UNTIL.  A test that takes
 * too long ends the program, by its name.
 *
 * Checks may be made on any thread.  Only the test's own thread can leave the
 * test; elsewhere a failed REQUIRE is like a failed CHECK. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the host of a server takes its events.  A test is run once for each of
 * its modes. */
typedef enum mode {
    MODE_NONE = 0,          /* no server, or one the test makes by itself */
    MODE_FREE = 1,          /* one worker that delivers */
    MODE_MANY = 2,          /* four of them, and no host lock: events run in parallel */
    MODE_RUN = 4,           /* marshalled, a thread inside run */
    MODE_DISPATCH = 8,      /* marshalled, a thread that dispatches when told */
    MODE_DRIVE = 16,        /* driven by a thread of the test's, where that can be */
    FREE_MODES = MODE_FREE | MODE_MANY,
    EVERY_MODE = FREE_MODES | MODE_RUN | MODE_DISPATCH | MODE_DRIVE
} mode;

typedef struct test {
    const char *name;
    void (*run)(void);
    unsigned modes;
} test;

/* Runs every test of the tables of all lists whose name contains one of the
 * arguments.  An entry without a name ends a table, NULL a list.  The exit code. */
int harness_main(const test *const *const *lists, int argc, char **argv);
mode harness_mode(void);

/* Both give back whether it was so. */
bool check_true(bool ok, const char *text, const char *file, int line);
bool check_equal(int64_t a, int64_t b, const char *a_text, const char *b_text, const char *file,
                 int line);
bool harness_failed(void);      /* this test, so far */
void harness_leave(void);       /* ends it */
/* Ends the test as skipped; `why` is printed. */
void harness_skip(const char *why);

/* For UNTIL: patience that is the same for all waits of all tests. */
int64_t harness_wait_end(void);
bool harness_wait(int64_t end);

#define CHECK(x) check_true((x), #x, __FILE__, __LINE__)
#define CHECK_EQUAL(a, b) check_equal((int64_t)(a), (int64_t)(b), #a, #b, __FILE__, __LINE__)
#define REQUIRE(x) (CHECK(x) ? (void)0 : harness_leave())
#define REQUIRE_EQUAL(a, b) (CHECK_EQUAL(a, b) ? (void)0 : harness_leave())

/* Waits until x is true. */
#define UNTIL(x)                                                    \
    do {                                                            \
        int64_t until_end = harness_wait_end();                     \
        while (!(x))                                                \
            if (!harness_wait(until_end)) {                         \
                check_true(false, "until " #x, __FILE__, __LINE__); \
                harness_leave();                                    \
                break;                                              \
            }                                                       \
    } while (0)

/* Waits until a is b. */
#define UNTIL_EQUAL(a, b)                       \
    do {                                        \
        int64_t until_end = harness_wait_end(); \
        while ((int64_t)(a) != (int64_t)(b))    \
            if (!harness_wait(until_end)) {     \
                REQUIRE_EQUAL(a, b);            \
                break;                          \
            }                                   \
    } while (0)

#endif
