/* The listening socket: claiming an address for one server, and accepting for
 * the instances that are armed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "linux.h"

#define LOCK_PATIENCE_NS INT64_C(5000000000)
#define LOCK_PAUSE_NS 5000000
enum { BACKLOG = 4096 };            /* the system lowers it to its own limit */

/* ---- the address ------------------------------------------------------- */

/* Servers that start or stop in one directory do so one at a time.  The lock
 * is on the directory itself, so it leaves nothing behind. */
static bool lock_directory(int fd) {
    int64_t end = np_now() + LOCK_PATIENCE_NS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || np_now() > end)
            return false;
        struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
        nanosleep(&pause, NULL);
    }
    return true;
}

/* Whether somebody has the socket file.  A connect of another socket type is
 * refused either way, but not for the same reason, and no server notices. */
static bool is_alive(const struct sockaddr_un *to, socklen_t size) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true;
    int r = connect(fd, (const struct sockaddr *)to, size);
    bool dead = r != 0 && (errno == ECONNREFUSED || errno == ENOENT);
    close(fd);
    return !dead;
}

static np_code remove_stale(int directory, const char *name, const struct sockaddr_un *to,
                            socklen_t size, np_error *error) {
    struct stat st;
    if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? NP_OK : np_system_error(error, errno);
    if (!S_ISSOCK(st.st_mode) || is_alive(to, size))
        return NP_E_EXISTS;
    return unlinkat(directory, name, 0) == 0 ? NP_OK : np_system_error(error, errno);
}

static mode_t file_mode(const np_config *config) {
    switch (config->access) {
    case NP_ACCESS_EVERYONE: return 0666;
    case NP_ACCESS_MODE: return config->access_mode & 0777;
    case NP_ACCESS_GROUP: return 0660;
    default: return 0600;
    }
}

/* Nobody connects before the socket listens. */
static np_code give_to_group(np_listener *l, np_error *error) {
    if (l->group == (gid_t)-1
        || fchownat(l->directory, l->name, (uid_t)-1, l->group, AT_SYMLINK_NOFOLLOW) == 0)
        return NP_OK;
    if (errno != EPERM)
        return np_system_error(error, errno);
    error->value = NP_GROUP_OTHERS;
    return NP_E_GROUP;
}

/* Of the file that was made, not of one that a link in its place leads to: a path may be
 * in a directory of others. */
static np_code set_mode(const np_listener *l, mode_t mode, np_error *error) {
    char path[32];
    struct stat st;
    int fd = openat(l->directory, l->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return np_system_error(error, errno);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int os = 0;
    if (fstat(fd, &st) != 0)
        os = errno;
    else if (st.st_dev != l->device || st.st_ino != l->inode)
        os = EEXIST;
    else if (chmod(path, mode) != 0)
        os = errno;
    close(fd);
    return os ? np_system_error(error, os) : NP_OK;
}

static np_code bind_path(np_listener *l, const np_config *config, const struct sockaddr_un *to,
                         socklen_t size, np_error *error) {
    np_code code = remove_stale(l->directory, l->name, to, size, error);
    if (code != NP_OK)
        return code;
    /* The file is born with the socket's own mode less the umask: never open
     * to more than it should be, not even for a moment. */
    mode_t mode = file_mode(config);
    if (fchmod(l->fd, mode) != 0 || bind(l->fd, (const struct sockaddr *)to, size) != 0)
        return errno == EADDRINUSE ? NP_E_EXISTS : np_system_error(error, errno);
    struct stat st;
    if (fstatat(l->directory, l->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return np_system_error(error, errno);
    if (!S_ISSOCK(st.st_mode))
        return NP_E_EXISTS;
    l->device = st.st_dev;
    l->inode = st.st_ino;
    code = give_to_group(l, error);
    if (code != NP_OK)
        return code;
    return (st.st_mode & 0777) == mode ? NP_OK : set_mode(l, mode, error);
}

/* Opens the directory of a path and keeps the file's name in it. */
static np_code open_directory(np_listener *l, const char *address, np_error *error) {
    char path[NP_ADDRESS_MAX], runtime[NP_ADDRESS_MAX];
    snprintf(path, sizeof path, "%s", address);
    char *slash = strrchr(path, '/');
    if (!slash || !slash[1]) {
        error->value = '/';
        return NP_E_NAME_CHAR;
    }
    snprintf(l->name, sizeof l->name, "%.107s", slash + 1);
    slash[slash == path] = '\0';
    if (np_runtime_directory(runtime, sizeof runtime) && strcmp(path, runtime) == 0)
        return np_directory_prepare(path, &l->directory, error);
    l->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return l->directory < 0 ? np_system_error(error, errno) : NP_OK;
}

static np_code claim_path(np_listener *l, const np_config *config, const char *address,
                          const struct sockaddr_un *to, socklen_t size, np_error *error) {
    np_code code = open_directory(l, address, error);
    if (code != NP_OK)
        return code;
    if (!lock_directory(l->directory))
        return np_system_error(error, errno == EWOULDBLOCK ? ETIMEDOUT : errno);
    code = bind_path(l, config, to, size, error);
    if (code == NP_OK && listen(l->fd, BACKLOG) != 0)
        code = np_system_error(error, errno);
    flock(l->directory, LOCK_UN);
    return code;
}

np_code np_listener_open(np_listener *l, const np_config *config, const char *address,
                         np_error *error) {
    memset(l, 0, sizeof *l);
    l->source.kind = NP_SOURCE_LISTENER;
    l->directory = -1;
    l->fd = -1;
    l->group = (gid_t)-1;
    if (config->access == NP_ACCESS_SDDL)
        return NP_E_INVALID;
    if (config->access == NP_ACCESS_GROUP) {
        np_code found = np_access_group(config, address, &l->group, error);
        if (found != NP_OK)
            return found;
    }
    struct sockaddr_un to;
    socklen_t size = np_socket_address(&to, address);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    np_code code = l->fd < 0 ? np_system_error(error, errno) : NP_OK;
    if (code == NP_OK && address[0] == '@') {
        if (bind(l->fd, (struct sockaddr *)&to, size) != 0)
            code = errno == EADDRINUSE ? NP_E_EXISTS : np_system_error(error, errno);
        else if (listen(l->fd, BACKLOG) != 0)
            code = np_system_error(error, errno);
    } else if (code == NP_OK) {
        code = claim_path(l, config, address, &to, size, error);
    }
    np_mutex_init(&l->lock);
    if (code != NP_OK)
        np_listener_close(l);
    return code;
}

/* Removes the file only while it is still the one this listener made. */
static void remove_file(np_listener *l) {
    struct stat st;
    bool locked = lock_directory(l->directory);
    if (fstatat(l->directory, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == l->device
        && st.st_ino == l->inode)
        unlinkat(l->directory, l->name, 0);
    if (locked)
        flock(l->directory, LOCK_UN);
}

void np_listener_close(np_listener *l) {
    if (l->inode)
        remove_file(l);
    np_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->port_count; i++)
        epoll_ctl(l->ports[i]->epoll, EPOLL_CTL_DEL, l->fd, NULL);
    l->port_count = 0;
    np_mutex_unlock(&l->lock);
    np_listener_abandon(l);
}

void np_listener_abandon(np_listener *l) {
    if (l->fd >= 0)
        close(l->fd);
    if (l->directory >= 0)
        close(l->directory);
    l->fd = l->directory = -1;
}

/* ---- accepting --------------------------------------------------------- */

static void update_watch_locked(np_listener *l) {
    bool watch = l->armed && !l->paused;
    if (watch == l->watched)
        return;
    l->watched = watch;
    for (size_t i = 0; i < l->port_count; i++) {
        struct epoll_event e = {.events = watch ? EPOLLIN : 0, .data.ptr = l};
        epoll_ctl(l->ports[i]->epoll, EPOLL_CTL_MOD, l->fd, &e);
    }
}

np_code np_listener_attach(np_listener *l, np_port *port, np_error *error) {
    struct epoll_event e = {.events = 0, .data.ptr = l};
    /* So many workers accept; the others get their connections from these. */
    if (l->port_count == NP_LISTENER_PORTS)
        return NP_OK;
    if (epoll_ctl(port->epoll, EPOLL_CTL_ADD, l->fd, &e) != 0)
        return np_system_error(error, errno);
    np_mutex_lock(&l->lock);
    l->ports[l->port_count++] = port;
    np_mutex_unlock(&l->lock);
    return NP_OK;
}

np_code np_listener_arm(np_listener *l, np_instance *instance, np_port *port, np_error *error) {
    (void)port, (void)error;
    np_mutex_lock(&l->lock);
    instance->next = l->armed;
    l->armed = instance;
    update_watch_locked(l);
    np_mutex_unlock(&l->lock);
    return NP_OK;
}

static void set_paused(np_listener *l, bool paused) {
    np_mutex_lock(&l->lock);
    l->paused = paused;
    update_watch_locked(l);
    np_mutex_unlock(&l->lock);
}

void np_listener_pause(np_listener *l) { set_paused(l, true); }

void np_listener_resume(np_listener *l) { set_paused(l, false); }

void np_listener_cancel(np_listener *l, np_port *port) {
    np_mutex_lock(&l->lock);
    np_instance *instance = l->armed;
    l->armed = NULL;
    update_watch_locked(l);
    np_mutex_unlock(&l->lock);
    while (instance) {
        np_instance *next = instance->next;
        np_port_ready(port, &instance->operation, NP_E_CANCELED);
        instance = next;
    }
}

/* A client that gave up while it waited is no failure of the server's. */
static int accept_client(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 || (errno != EINTR && errno != ECONNABORTED))
            return fd;
    }
}

size_t np_listener_ready(np_listener *l, np_completion *out, size_t max) {
    size_t n = 0;
    np_mutex_lock(&l->lock);
    while (l->armed && !l->paused && n < max) {
        int fd = accept_client(l->fd);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        np_instance *instance = l->armed;
        l->armed = instance->next;
        out[n] = (np_completion){.operation = &instance->operation};
        if (fd >= 0) {
            np_link_init(&instance->link, fd);
        } else {
            out[n].os = errno;
            out[n].code = np_code_from_os(errno);
            l->paused = true;
        }
        n++;
    }
    update_watch_locked(l);
    np_mutex_unlock(&l->lock);
    return n;
}
