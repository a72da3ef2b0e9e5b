#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "linux.h"

np_code np_signal_open(np_signal *s, np_error *error) {
    s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s->fd < 0 ? np_system_error(error, errno) : NP_OK;
}

void np_signal_close(np_signal *s) {
    close(s->fd);
    s->fd = -1;
}

void np_signal_set(np_signal *s) {
    uint64_t one = 1;
    ssize_t n = write(s->fd, &one, sizeof one);
    (void)n;    /* a counter that is full is set as well */
}

void np_signal_clear(np_signal *s) {
    uint64_t value;
    ssize_t n = read(s->fd, &value, sizeof value);
    (void)n;    /* nothing to read: it was clear */
}

int np_signal_wait(np_signal *s, int64_t timeout_ns) {
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    int r = poll(&p, 1, ms > 86400000 ? 86400000 : (int)ms);
    return r < 0 ? -1 : r > 0;
}

intptr_t np_signal_waitable(const np_signal *s) { return s->fd; }
