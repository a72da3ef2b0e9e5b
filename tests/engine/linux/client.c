#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct client {
    int fd;
    bool bytes;
    uint8_t *data;
    size_t capacity;
};

enum { PART = 65536 };

static client *connect_to(const char *address, bool bytes) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(address);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    memcpy(to.sun_path, address, length);
    if (address[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    client *c = calloc(1, sizeof *c);
    if (!c || connect(fd, (struct sockaddr *)&to, size) != 0) {
        free(c);
        close(fd);
        return NULL;
    }
    c->fd = fd;
    c->bytes = bytes;
    return c;
}

client *client_connect(const char *address) { return connect_to(address, false); }

client *client_connect_bytes(const char *address) { return connect_to(address, true); }

bool client_send_raw(client *c, const void *data, size_t size) {
    const uint8_t *p = data;
    while (size) {
        ssize_t n = send(c->fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

bool client_send(client *c, const void *data, size_t size) {
    uint8_t header[4] = {(uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                         (uint8_t)size};
    return (c->bytes || client_send_raw(c, header, sizeof header))
           && client_send_raw(c, data, size);
}

/* What came into `to`, or why nothing. */
static int64_t receive_some(client *c, uint8_t *to, size_t size, int timeout_ms) {
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) != 1)
        return CLIENT_TIMEOUT;
    ssize_t n = recv(c->fd, to, size, 0);
    return n > 0 ? n : n == 0 ? CLIENT_END : CLIENT_RESET;
}

static int64_t receive_all(client *c, uint8_t *to, size_t size, int timeout_ms) {
    size_t got = 0;
    while (got < size) {
        int64_t n = receive_some(c, to + got, size - got, timeout_ms);
        if (n < 0)
            return got && n == CLIENT_END ? CLIENT_RESET : n;
        got += (size_t)n;
    }
    return (int64_t)got;
}

static bool reserve(client *c, size_t size) {
    if (size <= c->capacity)
        return true;
    uint8_t *data = realloc(c->data, size);
    if (!data)
        return false;
    c->data = data;
    c->capacity = size;
    return true;
}

int64_t client_receive(client *c, int timeout_ms) {
    if (c->bytes)
        return reserve(c, PART) ? receive_some(c, c->data, PART, timeout_ms) : CLIENT_RESET;
    uint8_t h[4];
    int64_t n = receive_all(c, h, sizeof h, timeout_ms);
    if (n < 0)
        return n;
    size_t size = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
    if (!reserve(c, size ? size : 1))
        return CLIENT_RESET;
    return receive_all(c, c->data, size, timeout_ms);
}

const uint8_t *client_data(const client *c) { return c->data; }

bool client_end_sending(client *c) { return shutdown(c->fd, SHUT_WR) == 0; }

void client_close(client *c) {
    close(c->fd);
    free(c->data);
    free(c);
}
