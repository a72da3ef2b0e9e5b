/* A socket that a thread waits on itself.  Nothing is read that was not asked
 * for: what another process, or a select, sees of the socket is true. */
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "linux.h"
#include "wire.h"

enum { LARGE_SEND = 192 << 10, SLICES = 4 };

/* ---- waiting ----------------------------------------------------------- */

static int milliseconds(int64_t ns) {
    if (ns < 0)
        return -1;
    int64_t ms = (ns + 999999) / 1000000;
    return ms > 86400000 ? 86400000 : (int)ms;
}

np_code np_wire_wait_any(struct pollfd *fds, size_t count, const np_wait *wait, int *os) {
    if (wait->deadline == NP_AT_ONCE)
        return NP_E_TIMEOUT;
    fds[0].fd = wait->wake ? (int)np_signal_waitable(wait->wake) : -1;
    fds[0].events = POLLIN;
    for (;;) {
        int64_t left = np_wait_left(wait);
        bool asks = wait->interrupt && (left < 0 || left > NP_ASK_NS);
        int r = poll(fds, count, milliseconds(asks ? NP_ASK_NS : left));
        if (r < 0 && errno == EINTR)
            return NP_E_INTERRUPTED;
        *os = r < 0 ? errno : 0;
        for (size_t i = 1; i < count && !*os; i++)
            *os = fds[i].revents & POLLNVAL ? EBADF : 0;
        if (*os)
            return NP_E_SYSTEM;
        if (fds[0].revents)
            return NP_E_CLOSED;
        if (r > 0)
            return NP_OK;
        if (asks)
            return NP_E_INTERRUPTED;
        if (np_wait_left(wait) == 0)
            return NP_E_TIMEOUT;
    }
}

np_code np_wire_wait(int fd, short events, const np_wait *wait, int *os) {
    struct pollfd fds[2] = {[1] = {.fd = fd, .events = events}};
    return np_wire_wait_any(fds, 2, wait, os);
}

np_code np_wire_receive_some(np_wire *w, uint8_t *to, size_t size, size_t *got, uint64_t *left,
                             int *os) {
    const np_wait at_once = {.deadline = NP_AT_ONCE};
    return np_wire_receive(w, to, size, &at_once, got, left, os);
}

np_code np_wire_poll(np_wire *w, const np_wait *wait, int *os) {
    return np_wire_wait(w->fd, POLLIN, wait, os);
}

/* ---- life -------------------------------------------------------------- */

np_code np_wire_adopt(np_wire *w, intptr_t handle, int *os) {
    *w = (np_wire){.fd = (int)handle};
    int type;
    socklen_t size = sizeof type;
    if (getsockopt(w->fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0)
        return NP_OK;
    *os = errno;
    return NP_E_SYSTEM;
}

void np_wire_close(np_wire *w) {
    int fd = w->fd;
    w->fd = -1;
    if (fd >= 0)
        close(fd);
}

intptr_t np_wire_handle(const np_wire *w) { return w->fd; }

np_code np_wire_pair(np_wire *a, np_wire *b, int *os) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        *os = errno;
        return NP_E_SYSTEM;
    }
    *a = (np_wire){.fd = fds[0]};
    *b = (np_wire){.fd = fds[1]};
    return NP_OK;
}

np_code np_wire_dial(np_wire *w, const char *address, bool owner_only, uint64_t *owner, int *os) {
    int fd, zero = 0;
    np_code code = np_socket_connect(address, owner_only, &fd, owner, os);
    if (code != NP_OK)
        return code;
    if (ioctl(fd, FIONBIO, &zero) != 0) {
        *os = errno;
        close(fd);
        return NP_E_SYSTEM;
    }
    *w = (np_wire){.fd = fd};
    return NP_OK;
}

np_code np_wire_dial_pause(const char *address, np_code why, int64_t pause_ns,
                           const np_wait *wait) {
    (void)address, (void)why, (void)wait;
    struct timespec pause = {.tv_sec = pause_ns / 1000000000, .tv_nsec = pause_ns % 1000000000};
    return nanosleep(&pause, NULL) == 0 ? NP_OK : NP_E_INTERRUPTED;
}

/* ---- receiving --------------------------------------------------------- */

np_code np_wire_receive(np_wire *w, uint8_t *to, size_t size, const np_wait *wait, size_t *got,
                        uint64_t *left, int *os) {
    *left = 0;
    for (;;) {
        ssize_t n = recv(w->fd, to, size, MSG_DONTWAIT);
        if (n >= 0) {
            *got = (size_t)n;
            return n ? NP_OK : NP_E_EOF;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            *os = errno;
            return errno == ECONNRESET ? NP_E_RESET : NP_E_SYSTEM;
        }
        np_code code = np_wire_wait(w->fd, POLLIN, wait, os);
        if (code != NP_OK)
            return code;
    }
}

/* Takes exactly what was seen.  Another process that shares the socket may have
 * been faster; then the stream is no longer whole. */
static np_code take_seen(np_wire *w, uint8_t *chunk, size_t size, int *os) {
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(w->fd, chunk + at, size - at, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *os = n < 0 ? errno : 0;
            return NP_E_RESET;
        }
        at += (size_t)n;
    }
    return NP_OK;
}

np_code np_wire_take(np_wire *w, uint8_t *chunk, size_t capacity, uint64_t limit, np_slice *out,
                     size_t max, size_t *count, int *os) {
    *count = 0;
    ssize_t n;
    do {
        n = recv(w->fd, chunk, capacity, MSG_DONTWAIT | MSG_PEEK);
    } while (n < 0 && errno == EINTR);
    size_t seen = n < 0 ? 0 : (size_t)n, at = 0;
    while (*count < max) {
        unsigned header;
        uint64_t length;
        if (np_frame_decode(chunk + at, seen - at, &header, &length) != NP_FRAME_OK
            || length > limit || length > seen - at - header)
            break;
        out[(*count)++] = (np_slice){chunk + at + header, (size_t)length};
        at += header + (size_t)length;
    }
    return take_seen(w, chunk, at, os);
}

bool np_wire_holds(const np_wire *w) {
    (void)w;
    return false;
}

void np_wire_set_holds(np_wire *w, bool holds) { (void)w, (void)holds; }

/* ---- sending ----------------------------------------------------------- */

/* As for a server's connection: see enlarge_buffer in link.c. */
static void enlarge(np_wire *w, size_t size) {
    if (w->enlarged || size < LARGE_SEND)
        return;
    w->enlarged = true;
    np_socket_enlarge(w->fd);
}

np_code np_wire_send(np_wire *w, const np_slice *slices, size_t count, const np_wait *wait,
                     size_t *taken, int *os) {
    struct iovec parts[SLICES];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    for (size_t i = 0; i < count; i++) {
        parts[i] = (struct iovec){(void *)(uintptr_t)slices[i].data, slices[i].size};
        enlarge(w, slices[i].size);
    }
    for (;;) {
        ssize_t n = count == 1 ? send(w->fd, parts[0].iov_base, parts[0].iov_len,
                                      MSG_NOSIGNAL | MSG_DONTWAIT)
                               : sendmsg(w->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            *taken = (size_t)n;
            return NP_OK;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            *os = errno;
            return errno == EPIPE || errno == ECONNRESET ? NP_E_BROKEN : NP_E_SYSTEM;
        }
        np_code code = np_wire_wait(w->fd, POLLOUT, wait, os);
        if (code != NP_OK)
            return code;
    }
}

/* An interrupted send has taken nothing. */
bool np_wire_send_stop(np_wire *w) {
    (void)w;
    return true;
}
