/* The yardstick on Linux: an echo of bytes on a Unix-domain stream socket by
 * one thread and epoll, without messages, queues or a language above it.
 * usage: rawecho PATH */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 20, EVENTS = 256 };

typedef struct {
    int fd;
    size_t waiting, sent;
    char *rest;
} client;

static int epoll;
static char buffer[READ_SIZE];

static void watch(client *c, int op, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, op, c->fd, &e);
}

static void end(client *c) {
    close(c->fd);
    free(c->rest);
    free(c);
}

static void keep(client *c, const char *from, size_t size) {
    free(c->rest);
    c->rest = malloc(size);
    memcpy(c->rest, from, size);
    c->waiting = size;
    c->sent = 0;
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void send_rest(client *c) {
    ssize_t n = send(c->fd, c->rest + c->sent, c->waiting - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        end(c);
        return;
    }
    c->sent += n > 0 ? (size_t)n : 0;
    if (c->sent == c->waiting)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void echo(client *c) {
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        end(c);
        return;
    }
    ssize_t sent = send(c->fd, buffer, (size_t)n, MSG_NOSIGNAL);
    if (sent < n)
        keep(c, buffer + (sent > 0 ? sent : 0), (size_t)(n - (sent > 0 ? sent : 0)));
}

static int listen_on(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    int listener = listen_on(argv[1]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event first = {.events = EPOLLIN};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &first);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            client *c = events[i].data.ptr;
            if (c && c->sent < c->waiting) {
                send_rest(c);
            } else if (c) {
                echo(c);
            } else {
                c = calloc(1, sizeof *c);
                c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                watch(c, EPOLL_CTL_ADD, EPOLLIN);
            }
        }
    }
}
