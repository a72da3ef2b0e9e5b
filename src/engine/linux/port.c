/* A completion port over epoll: level-triggered, and every operation that can
 * be done when the system says so is done here, so that what comes out are
 * completions. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "linux.h"

_Static_assert(offsetof(np_link, source) == 0 && offsetof(np_listener, source) == 0
                   && offsetof(np_port, wake) == 0,
               "epoll's pointer to a source is cast to its owner");

np_code np_port_open(np_port *port, np_error *error) {
    memset(port, 0, sizeof *port);
    port->wake.kind = NP_SOURCE_WAKE;
    port->ready_tail = &port->ready;
    port->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port->epoll < 0)
        return np_system_error(error, errno);
    port->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &port->wake};
    if (port->wake_fd < 0 || epoll_ctl(port->epoll, EPOLL_CTL_ADD, port->wake_fd, &e) != 0) {
        int os = errno;
        if (port->wake_fd >= 0)
            close(port->wake_fd);
        close(port->epoll);
        return np_system_error(error, os);
    }
    np_mutex_init(&port->lock);
    return NP_OK;
}

void np_port_close(np_port *port) {
    close(port->wake_fd);
    close(port->epoll);
    np_mutex_destroy(&port->lock);
}

void np_port_wake(np_port *port) {
    uint64_t one = 1;
    ssize_t n = write(port->wake_fd, &one, sizeof one);
    (void)n;    /* a counter that is full wakes as well */
}

intptr_t np_port_waitable(const np_port *port) { return port->epoll; }

void np_port_ready(np_port *port, np_operation *op, np_code code) {
    op->next = NULL;
    op->ready_code = code;
    np_mutex_lock(&port->lock);
    *port->ready_tail = op;
    port->ready_tail = &op->next;
    np_store32(&port->ready_count, 1);
    np_mutex_unlock(&port->lock);
    np_port_wake(port);
}

static size_t take_ready(np_port *port, np_completion *out, size_t max) {
    if (!np_load32(&port->ready_count))
        return 0;
    size_t n = 0;
    np_mutex_lock(&port->lock);
    while (port->ready && n < max) {
        np_operation *op = port->ready;
        port->ready = op->next;
        out[n++] = (np_completion){.operation = op, .code = op->ready_code, .os = op->ready_os};
    }
    if (!port->ready) {
        port->ready_tail = &port->ready;
        np_store32(&port->ready_count, 0);
    }
    np_mutex_unlock(&port->lock);
    return n;
}

void np_port_forget(np_port *port, const np_link *link) {
    for (int i = port->event_next; i < port->event_count; i++)
        if (port->events[i].data.ptr == link)
            port->events[i].data.ptr = NULL;
}

static int milliseconds(int64_t timeout_ns) {
    if (timeout_ns < 0)
        return -1;
    int64_t ms = (timeout_ns + 999999) / 1000000;
    return ms > 86400000 ? 86400000 : (int)ms;
}

void np_port_wait(np_port *port, np_arena *arena, np_completion *out, size_t max,
                  int64_t timeout_ns, size_t *count) {
    size_t n = take_ready(port, out, max);
    if (port->event_next == port->event_count) {
        int r = epoll_wait(port->epoll, port->events, NP_EPOLL_EVENTS,
                           n ? 0 : milliseconds(timeout_ns));
        port->event_next = 0;
        port->event_count = r < 0 ? 0 : r;
    }
    while (port->event_next < port->event_count && n + 2 <= max) {
        struct epoll_event *e = &port->events[port->event_next];
        np_source *source = e->data.ptr;
        if (source && source->kind == NP_SOURCE_LINK) {
            if (!np_link_ready((np_link *)(void *)source, e->events, arena, out, &n))
                break;
        } else if (source && source->kind == NP_SOURCE_LISTENER) {
            n += np_listener_ready((np_listener *)(void *)source, out + n, max - n);
        } else if (source) {
            uint64_t value;
            ssize_t r = read(port->wake_fd, &value, sizeof value);
            (void)r;
        }
        port->event_next++;
    }
    *count = n;
}
