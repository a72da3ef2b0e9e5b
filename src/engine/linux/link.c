/* A connected socket.  Reads are done when epoll says that bytes are there,
 * writes at once; a write that finds the socket full pends until it is worth
 * another try. */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "linux.h"

enum {
    READ_MIN = 4096,
    READ_MAX = 256 << 10,
    LARGE_WRITE = 192 << 10,
    DIRECT_PER_EVENT = 1 << 20,     /* a large message must not keep others waiting */
    SLICES = 64
};

void np_link_init(np_link *link, int fd) {
    memset(link, 0, sizeof *link);
    link->source.kind = NP_SOURCE_LINK;
    link->fd = fd;
    struct ucred cred;
    np_socket_peer(fd, &cred);
    link->pid = cred.pid;
    link->uid = cred.uid;
    link->gid = cred.gid;
}

void np_link_none(np_link *link) {
    memset(link, 0, sizeof *link);
    link->source.kind = NP_SOURCE_LINK;
    link->fd = -1;
}

/* ---- what epoll watches ------------------------------------------------ */

static int watch_locked(np_link *link, uint32_t mask) {
    struct epoll_event e = {.events = mask, .data.ptr = link};
    int op = link->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(link->port->epoll, op, link->fd, &e) != 0)
        return errno;
    link->mask = mask;
    link->in_epoll = true;
    return 0;
}

static void watch(np_link *link, uint32_t events) {
    np_mutex_lock(&link->mask_lock);
    if (!link->in_epoll || (link->mask & events) != events)
        watch_locked(link, (link->in_epoll ? link->mask : 0) | events);
    np_mutex_unlock(&link->mask_lock);
}

static void unwatch_reads(np_link *link) {
    np_mutex_lock(&link->mask_lock);
    if (link->in_epoll)
        watch_locked(link, link->mask & ~(uint32_t)EPOLLIN);
    np_mutex_unlock(&link->mask_lock);
    link->watching_reads = false;
}

static void unwatch_writes(np_link *link) {
    np_mutex_lock(&link->mask_lock);
    if (link->in_epoll && !np_load_ptr(&link->write))
        watch_locked(link, link->mask & ~(uint32_t)EPOLLOUT);
    np_mutex_unlock(&link->mask_lock);
}

/* A peer that hung up is reported for ever, whatever the mask: until somebody
 * reads or writes, nothing is watched. */
static void unwatch_all(np_link *link) {
    np_mutex_lock(&link->mask_lock);
    if (link->in_epoll) {
        epoll_ctl(link->port->epoll, EPOLL_CTL_DEL, link->fd, NULL);
        link->in_epoll = false;
        link->mask = 0;
    }
    np_mutex_unlock(&link->mask_lock);
    link->watching_reads = false;
}

/* ---- life -------------------------------------------------------------- */

static void set_buffers(int fd, size_t size) {
    if (!size)
        return;
    int value = size > INT32_MAX / 2 ? INT32_MAX / 2 : (int)size;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value);
}

np_code np_link_attach(np_link *link, np_port *port, const np_config *config, np_error *error) {
    size_t size = config->message_buffer_size;
    link->read_size = size < READ_MIN ? READ_MIN : size > READ_MAX ? READ_MAX : size;
    link->port = port;
    np_mutex_init(&link->mask_lock);
    set_buffers(link->fd, config->kernel_buffer_size);
    link->buffer_set = config->kernel_buffer_size != 0;
    np_mutex_lock(&link->mask_lock);
    int os = watch_locked(link, EPOLLIN);
    np_mutex_unlock(&link->mask_lock);
    link->watching_reads = true;
    return os ? np_system_error(error, os) : NP_OK;
}

void np_link_cancel(np_link *link) {
    if (link->read)
        np_port_ready(link->port, link->read, NP_E_CANCELED);
    link->read = NULL;
    np_operation *write = np_swap_ptr(&link->write, NULL);
    if (write)
        np_port_ready(link->port, write, NP_E_CANCELED);
}

void np_link_end_writes(np_link *link) { shutdown(link->fd, SHUT_RDWR); }

void np_link_close(np_link *link) {
    if (link->fd < 0)
        return;
    if (link->port) {
        np_port_forget(link->port, link);
        /* A child of fork may keep the description alive, and with it epoll's
         * entry, whose pointer dies here. */
        unwatch_all(link);
        np_mutex_destroy(&link->mask_lock);
    }
    close(link->fd);
    link->fd = -1;
}

bool np_link_recycle(np_link *link, np_listener *listener, np_instance *instance, np_port *port) {
    (void)link, (void)listener, (void)instance, (void)port;
    return false;   /* every client has a socket of its own */
}

void np_link_abandon(np_link *link) {
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

intptr_t np_link_handle(const np_link *link) { return link->fd; }

/* ---- reading ----------------------------------------------------------- */

void np_link_read(np_link *link, np_operation *op, uint8_t *buffer, size_t capacity) {
    link->read = op;
    link->buffer = buffer;
    link->capacity = capacity;
    if (!link->watching_reads) {
        watch(link, EPOLLIN);
        link->watching_reads = true;
    }
}

static ssize_t receive(int fd, uint8_t *to, size_t size) {
    ssize_t r;
    do {
        r = recv(fd, to, size, MSG_DONTWAIT);
    } while (r < 0 && errno == EINTR);
    return r;
}

/* Fills the operation's own buffer as far as bytes are there. */
static ssize_t receive_direct(np_link *link) {
    size_t max = link->capacity < DIRECT_PER_EVENT ? link->capacity : DIRECT_PER_EVENT;
    size_t got = 0;
    while (got < max) {
        ssize_t r = receive(link->fd, link->buffer + got, max - got);
        if (r <= 0)
            return got ? (ssize_t)got : r;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static void complete_read(np_link *link, ssize_t got, const uint8_t *data, np_completion *out,
                          size_t *count) {
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    np_completion *done = &out[(*count)++];
    *done = (np_completion){.operation = link->read};
    link->read = NULL;
    if (got > 0) {
        done->bytes = (size_t)got;
        done->data = data;
    } else if (got == 0) {
        done->code = NP_E_EOF;
    } else {
        done->os = errno;
        done->code = np_code_from_os(errno);
    }
}

/* False: no room to read into. */
static bool do_read(np_link *link, np_arena *arena, np_completion *out, size_t *count) {
    if (link->buffer) {
        complete_read(link, receive_direct(link), link->buffer, out, count);
        return true;
    }
    if (arena->size - arena->used < link->read_size)
        return false;
    uint8_t *to = arena->data + arena->used;
    ssize_t got = receive(link->fd, to, link->read_size);
    if (got > 0)
        arena->used += ((size_t)got + 63) & ~(size_t)63;
    complete_read(link, got, to, out, count);
    return true;
}

bool np_link_ready(np_link *link, uint32_t events, np_arena *arena, np_completion *out,
                   size_t *count) {
    bool hung_up = events & (EPOLLHUP | EPOLLERR);
    if (link->read) {
        if (events & EPOLLIN || hung_up)
            if (!do_read(link, arena, out, count))
                return false;
    } else if (hung_up) {
        unwatch_all(link);
    } else if (events & EPOLLIN) {
        unwatch_reads(link);
    }
    if (events & EPOLLOUT || hung_up) {
        np_operation *write = np_swap_ptr(&link->write, NULL);
        if (write)
            out[(*count)++] = (np_completion){.operation = write};
        else if (events & EPOLLOUT)
            unwatch_writes(link);
    }
    return true;
}

/* ---- writing ----------------------------------------------------------- */

static ssize_t transmit(int fd, const np_slice *slices, size_t count) {
    if (count == 1)
        return send(fd, slices[0].data, slices[0].size, MSG_NOSIGNAL | MSG_DONTWAIT);
    struct iovec parts[SLICES];
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct iovec){(void *)(uintptr_t)slices[i].data, slices[i].size};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The system's default buffer takes a fraction of a large message at a time,
 * with a switch to the peer after each.  A connection that sends such messages
 * gets a larger one, as far as the system's limit allows. */
void np_socket_enlarge(int fd) {
    int value = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
}

static void enlarge_buffer(np_link *link, size_t size) {
    if (link->buffer_set || size < LARGE_WRITE)
        return;
    link->buffer_set = true;
    np_socket_enlarge(link->fd);
}

np_code np_link_write(np_link *link, np_operation *op, const np_slice *slices, size_t count,
                      size_t *taken, int *os) {
    if (count > SLICES)
        count = SLICES;
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += slices[i].size;
    enlarge_buffer(link, total);
    ssize_t r;
    do {
        r = transmit(link->fd, slices, count);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        *os = errno;
        return errno == ECONNRESET ? NP_E_BROKEN : np_code_from_os(errno);
    }
    *taken = r < 0 ? 0 : (size_t)r;
    if (*taken == total)
        return NP_OK;
    np_swap_ptr(&link->write, op);
    watch(link, EPOLLOUT);
    return NP_PENDING;
}
