/* What the files of this folder share beyond the contract. */
#ifndef NP_LINUX_H
#define NP_LINUX_H

#include <sys/socket.h>
#include <sys/un.h>

#include "platform.h"

/* port.c: an operation that completes without the system's help.  Any thread. */
void np_port_ready(np_port *port, np_operation *op, np_code code);
/* Events of this link that were taken from the system are void now. */
void np_port_forget(np_port *port, const np_link *link);

/* link.c: what an epoll event makes of a link: at most two completions.  False:
 * the arena has no room for a read; nothing was done. */
bool np_link_ready(np_link *link, uint32_t events, np_arena *arena, np_completion *out,
                   size_t *count);
void np_link_init(np_link *link, int fd);

/* listen.c: accepts for armed instances; how many of them completed. */
size_t np_listener_ready(np_listener *listener, np_completion *out, size_t max);

/* address.c: the directory of leaf names.  The length, or 0 if it does not fit. */
size_t np_runtime_directory(char *out, size_t capacity);
/* Whether the address is a file in it. */
bool np_address_is_leaf(const char *address);
/* Whether any user can be the first to have it: an abstract name, and a file in
 * the directory that is made in /tmp. */
bool np_address_is_open_to_all(const char *address);

/* address.c: as the system's calls take it; its size. */
socklen_t np_socket_address(struct sockaddr_un *to, const char *address);

/* dial.c: one attempt to connect, which never waits; the socket does not block.
 * NP_E_OWNER: the server is one of *uid, whom owner_only, or the kind of the
 * address, does not allow. */
np_code np_socket_connect(const char *address, bool owner_only, int *fd, uint64_t *uid, int *os);

/* link.c: a larger send buffer, for large messages. */
void np_socket_enlarge(int fd);

/* security.c: whether `access` lets this uid in at that address. */
bool np_access_allows(const np_config *config, const char *address, uid_t uid);

/* security.c: the group that config->access_group names, if a socket at that
 * address can be for one. */
np_code np_access_group(const np_config *config, const char *address, gid_t *gid, np_error *error);

/* security.c: who the other end was when it connected.  False: not known, and
 * no user. */
bool np_socket_peer(int fd, struct ucred *out);
/* security.c: makes the directory, or finds out whether it can be trusted, and
 * opens it.  *fd is the caller's also after a failure, unless it is -1. */
np_code np_directory_prepare(const char *path, int *fd, np_error *error);

/* wire.c: waits for events of poll.  The first of fds is np_wire_wait_any's own. */
struct pollfd;
np_code np_wire_wait_any(struct pollfd *fds, size_t count, const np_wait *wait, int *os);
np_code np_wire_wait(int fd, short events, const np_wait *wait, int *os);

/* Fills *error in from errno. */
np_code np_system_error(np_error *error, int os);

#endif
