/* Who may connect, and who did. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux.h"
#include "wire.h"

static np_code check_directory(const struct stat *st, np_error *error) {
    error->value = st->st_mode & 07777;
    error->limit = st->st_uid;
    error->os = 0;
    if (!S_ISDIR(st->st_mode))
        error->os = ENOTDIR;
    else if (st->st_uid != geteuid())
        error->os = EPERM;
    else if (st->st_mode & 077)
        error->os = EACCES;
    return error->os ? NP_E_DIRECTORY : NP_OK;
}

/* What is opened is checked itself: it may be another one by then. */
np_code np_directory_prepare(const char *path, int *fd, np_error *error) {
    struct stat st;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return np_system_error(error, errno);
    if (lstat(path, &st) != 0)
        return np_system_error(error, errno);
    np_code code = check_directory(&st, error);
    if (code != NP_OK)
        return code;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return np_system_error(error, errno);
    return check_directory(&st, error);
}

bool np_access_allows(const np_config *config, const char *address, uid_t uid) {
    /* An abstract name is open to every user: only this check protects it. */
    bool checked = config->access == NP_ACCESS_USER || address[0] == '@';
    return !checked || uid == geteuid() || uid == 0;
}

static np_code find_group(const char *name, gid_t *gid, np_error *error) {
    char *end;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (name[0] >= '0' && name[0] <= '9' && !*end && !errno && number < (gid_t)-1) {
        *gid = (gid_t)number;
        return NP_OK;
    }
    /* A group of many members needs more. */
    for (size_t size = 4096; size <= (1 << 20); size *= 2) {
        struct group entry, *found = NULL;
        char *text = malloc(size);
        int os = text ? getgrnam_r(name, &entry, text, size, &found) : ENOMEM;
        if (!os && found)
            *gid = entry.gr_gid;
        free(text);
        if (!os && found)
            return NP_OK;
        if (os != ERANGE)
            break;
    }
    error->value = NP_GROUP_UNKNOWN;
    return NP_E_GROUP;
}

np_code np_access_group(const np_config *config, const char *address, gid_t *gid, np_error *error) {
    if (address[0] != '@' && !np_address_is_leaf(address))
        return find_group(config->access_group, gid, error);
    error->value = NP_GROUP_PLACE;
    return NP_E_GROUP;
}

np_code np_link_check_peer(const np_link *link, const np_config *config, const char *address,
                           np_error *error) {
    if (np_access_allows(config, address, link->uid))
        return NP_OK;
    error->value = link->uid;
    error->limit = geteuid();
    return NP_E_ACCESS;
}

void np_link_peer(const np_link *link, np_peer *out) {
    *out = (np_peer){.pid = link->pid ? link->pid : -1, .uid = link->uid, .gid = link->gid};
}

bool np_socket_peer(int fd, struct ucred *out) {
    socklen_t size = sizeof *out;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &size) == 0)
        return true;
    *out = (struct ucred){.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
    return false;
}

void np_wire_peer(const np_wire *wire, np_peer *out) {
    struct ucred cred;
    *out = (np_peer){.pid = -1, .uid = -1, .gid = -1};
    if (np_socket_peer(wire->fd, &cred))
        *out = (np_peer){.pid = cred.pid ? cred.pid : -1, .uid = cred.uid, .gid = cred.gid};
}

void np_peer_look_up(np_peer *peer) {
    struct passwd entry, *found = NULL;
    char text[4096];
    if (peer->uid < 0)
        return;
    if (getpwuid_r((uid_t)peer->uid, &entry, text, sizeof text, &found) == 0 && found)
        snprintf(peer->user, sizeof peer->user, "%s", found->pw_name);
}
