#include "listener.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct listener {
    int fd;
    char path[108];
};

listener *listener_open(const char *address) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    listener *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    strncpy(l->path, address, sizeof l->path - 1);
    memcpy(to.sun_path, l->path, sizeof to.sun_path);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(l->fd, (struct sockaddr *)&to, sizeof to) != 0 || listen(l->fd, 0) != 0) {
        close(l->fd);
        free(l);
        return NULL;
    }
    return l;
}

bool listener_drop_one(listener *l, int timeout_ms) {
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) != 1)
        return false;
    int fd = accept(l->fd, NULL, NULL);
    close(fd);
    return fd >= 0;
}

void listener_close(listener *l) {
    close(l->fd);
    unlink(l->path);
    free(l);
}
