/* Connecting a Unix-domain socket.  The system answers at once: it connects, or
 * says why not.  A queue of clients that is full can't be waited for. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "linux.h"

void np_dial_init(np_dial *dial, void *owner) {
    *dial = (np_dial){.operation = {.kind = NP_OP_CONNECT, .owner = owner}};
    np_link_none(&dial->link);
}

static np_code code_of(int os) {
    switch (os) {
    case 0: return NP_OK;
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED: return NP_E_NOT_FOUND;   /* refused: a file that a crash left behind */
    case EAGAIN: return NP_E_BUSY;
    case EACCES:
    case EPERM: return NP_E_ACCESS;
    case ECONNRESET:
    case EPIPE: return NP_E_BROKEN;
    default: return np_code_from_os(os);
    }
}

static bool is_trusted(int fd, const char *address, bool owner_only, uint64_t *uid) {
    struct ucred cred;
    if (!owner_only && !np_address_is_open_to_all(address))
        return true;
    if (!np_socket_peer(fd, &cred))
        return false;
    *uid = cred.uid;
    return cred.uid == geteuid() || (cred.uid == 0 && !owner_only);
}

np_code np_socket_connect(const char *address, bool owner_only, int *fd, uint64_t *uid, int *os) {
    struct sockaddr_un to;
    socklen_t size = np_socket_address(&to, address);
    *os = 0;
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0) {
        *os = errno;
        return np_code_from_os(*os);
    }
    if (connect(*fd, (const struct sockaddr *)&to, size) != 0)
        *os = errno;
    bool trusted = *os || is_trusted(*fd, address, owner_only, uid);
    if (*os || !trusted) {
        close(*fd);
        *fd = -1;
    }
    return trusted ? code_of(*os) : NP_E_OWNER;
}

static np_code reach(np_dial *dial, const np_config *config, const char *address) {
    int fd;
    np_code code = np_socket_connect(address, config->owner_only, &fd, &dial->value,
                                     &dial->operation.ready_os);
    if (code == NP_OK)
        np_link_init(&dial->link, fd);
    return code;
}

void np_dial_start(np_dial *dial, np_port *port, const np_config *config, const char *address,
                   int64_t wait_ns) {
    (void)wait_ns;
    dial->value = 0;
    np_port_ready(port, &dial->operation, reach(dial, config, address));
}

/* It has completed already. */
void np_dial_cancel(np_dial *dial) { (void)dial; }

void np_dial_abandon(np_dial *dial) { np_link_abandon(&dial->link); }
