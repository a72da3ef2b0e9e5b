/* A listening socket that a thread waits on itself. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "linux.h"
#include "wire.h"

np_code np_wire_listen(np_wire_listener *l, const np_config *config, const char *address,
                       np_error *error) {
    l->any_user = np_access_allows(config, address, (uid_t)-1);
    return np_listener_open(&l->listener, config, address, error);
}

void np_wire_unlisten(np_wire_listener *l) {
    np_listener_close(&l->listener);
    l->listener.inode = 0;
}

void np_wire_listener_forked(np_wire_listener *l) { l->listener.inode = 0; }

intptr_t np_wire_listener_handle(const np_wire_listener *l) { return l->listener.fd; }

static bool is_let_in(const np_wire_listener *l, int fd) {
    struct ucred cred;
    if (l->any_user)
        return true;
    return np_socket_peer(fd, &cred) && (cred.uid == geteuid() || cred.uid == 0);
}

/* A client that may not, or that gave up while it waited, is none. */
np_code np_wire_accept(np_wire_listener *l, const np_wait *wait, np_wire *out, int *os) {
    for (;;) {
        int fd = accept4(l->listener.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && is_let_in(l, fd)) {
            *out = (np_wire){.fd = fd};
            return NP_OK;
        }
        if (fd >= 0) {
            close(fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            np_code code = np_wire_wait(l->listener.fd, POLLIN, wait, os);
            if (code != NP_OK)
                return code;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            *os = errno;
            return NP_E_SYSTEM;
        }
    }
}

np_code np_wire_listener_wait(np_wire_listener *l, bool clients, np_wire *const *wires,
                              size_t count, const np_wait *wait, int *os) {
    struct pollfd fds[2 + NP_WIRES_WAITED];
    fds[1] = (struct pollfd){.fd = clients ? l->listener.fd : -1, .events = POLLIN};
    for (size_t i = 0; i < count; i++)
        fds[2 + i] = (struct pollfd){.fd = wires[i]->fd, .events = POLLIN};
    return np_wire_wait_any(fds, 2 + count, wait, os);
}
