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
    case ENOENT:
    case ECONNREFUSED: return NP_E_NOT_FOUND;   /* refused: a file that a crash left behind */
    case EAGAIN: return NP_E_BUSY;
    case EACCES:
    case EPERM: return NP_E_DENIED;
    case ECONNRESET:
    case EPIPE: return NP_E_BROKEN;
    default: return np_code_from_os(os);
    }
}

static int connect_to(int fd, const char *address) {
    struct sockaddr_un to;
    socklen_t size = np_socket_address(&to, address);
    int r;
    do {
        r = connect(fd, (const struct sockaddr *)&to, size);
    } while (r != 0 && errno == EINTR);
    return r == 0 ? 0 : errno;
}

/* Any user can take an abstract name. */
static bool is_trusted(const np_link *link, const np_config *config, const char *address) {
    if (link->uid == geteuid())
        return true;
    return !config->owner_only && (address[0] != '@' || link->uid == 0);
}

static np_code reach(np_dial *dial, const np_config *config, const char *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    dial->operation.ready_os = fd < 0 ? errno : connect_to(fd, address);
    if (dial->operation.ready_os) {
        if (fd >= 0)
            close(fd);
        return code_of(dial->operation.ready_os);
    }
    np_link_init(&dial->link, fd);
    if (is_trusted(&dial->link, config, address))
        return NP_OK;
    dial->value = dial->link.uid;
    np_link_close(&dial->link);
    return NP_E_OWNER;
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
