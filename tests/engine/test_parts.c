/* Lists, timers and buffers. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "suites.h"
#include "system.h"

static void a_list_keeps_its_order(void) {
    np_list list;
    np_node a, b, c;
    np_list_init(&list);
    np_list_init(&a), np_list_init(&b), np_list_init(&c);
    CHECK(np_list_empty(&list));
    np_list_append(&list, &a);
    np_list_append(&list, &c);
    np_list_insert_before(&c, &b);
    CHECK(list.next == &a && a.next == &b && b.next == &c && c.next == &list);
    CHECK(list.prev == &c && c.prev == &b && b.prev == &a && a.prev == &list);
    np_list_remove(&b);
    np_list_remove(&b);
    CHECK(a.next == &c && c.prev == &a);
    np_list_remove(&a);
    np_list_remove(&c);
    CHECK(np_list_empty(&list));
}

enum { TIMERS = 5 };

static void timers_are_kept_by_deadline(void) {
    static const int64_t delays[TIMERS] = {500, 100, 300, 100, 200};
    np_timer timers[TIMERS];
    np_worker *w = calloc(1, sizeof *w);
    REQUIRE(w != NULL);
    np_list_init(&w->timers);
    for (unsigned i = 0; i < TIMERS; i++) {
        np_list_init(&timers[i].node);
        np_timer_set(w, &timers[i], delays[i] * INT64_C(1000000000));
    }
    np_timer_clear(&timers[2]);
    np_timer_clear(&timers[2]);
    np_timer_set(w, &timers[4], INT64_C(900000000000));
    static const unsigned order[] = {1, 3, 0, 4};
    np_node *node = w->timers.next;
    for (unsigned i = 0; i < 4; i++, node = node->next)
        CHECK(NP_ENTRY(node, np_timer, node) == &timers[order[i]]);
    CHECK(node == &w->timers);
    free(w);
}

static void timers_of_messages_need_no_search(void) {
    np_timer timers[TIMERS];
    np_worker *w = calloc(1, sizeof *w);
    REQUIRE(w != NULL);
    np_list_init(&w->timers);
    np_list_init(&w->message_timers);
    for (unsigned i = 0; i < TIMERS; i++) {
        np_list_init(&timers[i].node);
        np_timer_append(w, &timers[i], 1000000000);
    }
    np_timer_append(w, &timers[1], 1000000000);
    np_timer_clear(&timers[3]);
    static const unsigned order[] = {0, 2, 4, 1};
    np_node *node = w->message_timers.next;
    for (unsigned i = 0; i < 4; i++, node = node->next)
        CHECK(NP_ENTRY(node, np_timer, node) == &timers[order[i]]);
    CHECK(node == &w->message_timers);
    CHECK(np_list_empty(&w->timers));
    free(w);
}

static void a_buffer_ends_with_its_last_reference(void) {
    np_buffer *b = np_buffer_new(100);
    REQUIRE(b != NULL);
    CHECK(!np_buffer_owner(b));
    CHECK_EQUAL(np_buffer_size(b), 0);
    memset(np_buffer_data(b), 'x', 100);
    np_buffer_retain(b);
    CHECK(!np_buffer_drop(b));
    memset(np_buffer_data(b), 'y', 100);
    CHECK(!np_buffer_drop(b));

    char text[] = "text";
    b = np_buffer_wrap(text, 4, NULL, text);
    REQUIRE(b != NULL);
    CHECK(np_buffer_owner(b) == text);
    CHECK(np_buffer_data(b) == (uint8_t *)text);
    CHECK_EQUAL(np_buffer_size(b), 4);
    np_buffer_retain(b);
    CHECK(!np_buffer_drop(b));
    CHECK(np_buffer_drop(b));
    np_buffer_free(b);
}

static void a_buffer_grows_and_keeps_what_it_has(void) {
    np_buffer *b = np_buffer_new(10);
    REQUIRE(b != NULL);
    memcpy(np_buffer_data(b), "0123456789", 10);
    b->size = 10;
    b = np_buffer_resize(b, 100000);
    REQUIRE(b != NULL);
    CHECK_EQUAL(b->capacity, 100000);
    CHECK(memcmp(np_buffer_data(b), "0123456789", 10) == 0);
    CHECK(!np_buffer_resize(b, SIZE_MAX));
    CHECK(!np_buffer_drop(b));
    CHECK(!np_buffer_new(SIZE_MAX));
}

static void a_signal_is_set_until_it_is_cleared(void) {
    np_signal s;
    np_error error;
    REQUIRE_EQUAL(np_signal_open(&s, &error), NP_OK);
    CHECK_EQUAL(np_signal_wait(&s, 0), 0);
    np_signal_set(&s);
    np_signal_set(&s);
    CHECK_EQUAL(np_signal_wait(&s, -1), 1);
    CHECK_EQUAL(np_signal_wait(&s, 0), 1);
    CHECK(system_waitable(np_signal_waitable(&s), 0));
    np_signal_clear(&s);
    np_signal_clear(&s);
    CHECK(!system_waitable(np_signal_waitable(&s), 0));
    int64_t begin = np_now();
    CHECK_EQUAL(np_signal_wait(&s, 20000000), 0);
    CHECK(np_now() - begin >= 20000000);
    np_signal_close(&s);
}

static void wake(void *worker) { np_worker_wake(worker); }

/* Another thread is about to wake a poller that something else wakes as well,
 * and that ends: whoever joins it closes the port. */
static void a_worker_that_has_ended_is_not_woken(void) {
    np_worker w = {0};
    np_completion done[1];
    np_arena arena = {0};
    np_error error;
    np_thread waker;
    size_t count;
    np_mutex_init(&w.wake_lock);
    REQUIRE_EQUAL(np_port_open(&w.port, &error), NP_OK);
    np_store32(&w.asleep, 1);
    np_mutex_lock(&w.wake_lock);
    REQUIRE_EQUAL(np_thread_start(&waker, wake, &w), 0);
    UNTIL(!np_load32(&w.asleep));
    w.ended = true;
    np_mutex_unlock(&w.wake_lock);
    np_thread_join(waker);
    int64_t begin = np_now();
    np_port_wait(&w.port, &arena, done, 1, 50000000, &count);
    CHECK_EQUAL(count, 0);
    CHECK(np_now() - begin >= 25000000);
    np_port_close(&w.port);
    np_mutex_destroy(&w.wake_lock);
}

const test parts_tests[] = {
    {"a list keeps its order", a_list_keeps_its_order, 0},
    {"timers are kept by deadline", timers_are_kept_by_deadline, 0},
    {"timers of messages need no search", timers_of_messages_need_no_search, 0},
    {"a buffer ends with its last reference", a_buffer_ends_with_its_last_reference, 0},
    {"a buffer grows and keeps what it has", a_buffer_grows_and_keeps_what_it_has, 0},
    {"a signal is set until it is cleared", a_signal_is_set_until_it_is_cleared, 0},
    {"a worker that has ended is not woken", a_worker_that_has_ended_is_not_woken, 0},
    {0},
};
