#include "state.h"

#include <sys/mman.h>
#include <unistd.h>

enum { LARGE_BLOCK = 16 << 20, HUGE_PAGES_FROM = 8 << 20 };

const bool host_has_descriptors = true;
const char host_family[] = "AF_UNIX";

bool host_post(intptr_t port, intptr_t address) {
    (void)port, (void)address;
    return false;
}

/* glibc's malloc learns from the largest mapped block that is freed how much
 * free memory to keep.  Until it has, every large message's memory comes fresh
 * from the system, page fault by page fault, which halves the throughput.  A
 * block that is never touched teaches it for the price of two system calls. */
void host_expect_large_messages(void) {
    void *volatile block = malloc(LARGE_BLOCK);
    free(block);
}

/* Memory as large as this comes fresh from the system; with huge pages it takes
 * some page faults to fill it and not thousands.  A hint: failing harms nothing. */
void host_prepare_large_buffer(void *data, size_t size) {
    if (size < HUGE_PAGES_FROM)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)data + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)data + size) & ~(page - 1);
    madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

/* A signal ends epoll's wait by itself. */
void interrupt_watch_begin(interrupt_watch *watch, np_endpoint *endpoint) {
    watch->endpoint = endpoint;
}

void interrupt_watch_end(interrupt_watch *watch) { watch->endpoint = NULL; }

intptr_t host_interrupt(void) { return _PyOS_IsMainThread(); }

PyObject *host_os_error(PyObject *type, int os, const char *text, PyObject *filename) {
    if (filename)
        return PyObject_CallFunction(type, "isO", os, text ? text : strerror(os), filename);
    return PyObject_CallFunction(type, "is", os, text ? text : strerror(os));
}
