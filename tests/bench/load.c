/* Load on an echo server: CONNECTIONS at once, each with WINDOW framed messages
 * of SIZE bytes on their way, for SECONDS.  Every echo is compared.
 * usage: load PATH CONNECTIONS WINDOW SIZE SECONDS
 * prints: messages/s, then the median and the 99th percentile in us */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 20, EVENTS = 256, LATENCIES = 1 << 20, HEADER = 4 };

typedef struct {
    int fd;
    double *started;            /* a ring of `window` */
    size_t oldest, newest;
    char *out;                  /* `window` frames, all alike */
    size_t owed, sent;          /* bytes of out still to go, and where in the frame */
    size_t in_frame;            /* bytes of the current frame that came */
} client;

static size_t window, size, frame;
static char *expected;          /* one frame */
static float *latencies;
static size_t latency_count;
static unsigned long long echoes;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void start(client *c, size_t count, double at) {
    for (size_t i = 0; i < count; i++) {
        c->started[c->newest] = at;
        c->newest = (c->newest + 1) % window;
    }
    c->owed += count * frame;
}

/* out holds `window` frames, so a run of owed bytes begins anywhere in the
 * first and fits. */
static void flush(client *c) {
    while (c->owed) {
        size_t most = window * frame - c->sent;
        ssize_t n = send(c->fd, c->out + c->sent, c->owed < most ? c->owed : most,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            fail("send");
        c->owed -= (size_t)n;
        c->sent = (c->sent + (size_t)n) % frame;
    }
}

static size_t check(client *c, const char *p, size_t n, double at) {
    size_t done = 0;
    while (n) {
        size_t here = frame - c->in_frame < n ? frame - c->in_frame : n;
        if (memcmp(p, expected + c->in_frame, here) != 0) {
            fprintf(stderr, "an echo differs\n");
            exit(1);
        }
        p += here;
        n -= here;
        c->in_frame += here;
        if (c->in_frame < frame)
            break;
        c->in_frame = 0;
        latencies[latency_count++ % LATENCIES] = (float)(at - c->started[c->oldest]);
        c->oldest = (c->oldest + 1) % window;
        done++;
    }
    return done;
}

static void receive(client *c, char *buffer) {
    ssize_t n;
    do {
        n = recv(c->fd, buffer, READ_SIZE, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            fail("recv");
        if (n > 0) {
            double at = now();
            size_t done = check(c, buffer, (size_t)n, at);
            echoes += done;
            start(c, done, at);
            flush(c);
        }
    } while (n == READ_SIZE);
}

static int dial(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail(path);
    return fd;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    size_t connections = strtoull(argv[2], NULL, 10);
    window = strtoull(argv[3], NULL, 10);
    size = strtoull(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL);
    frame = HEADER + size;
    expected = malloc(frame);
    uint32_t header = htonl((uint32_t)size);
    memcpy(expected, &header, HEADER);
    for (size_t i = 0; i < size; i++)
        expected[HEADER + i] = (char)(i * 131 + 17);
    char *out = malloc((window + 1) * frame);
    for (size_t i = 0; i <= window; i++)
        memcpy(out + i * frame, expected, frame);
    latencies = malloc(LATENCIES * sizeof *latencies);
    client *clients = calloc(connections, sizeof *clients);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < connections; i++) {
        client *c = &clients[i];
        *c = (client){.fd = dial(argv[1]), .started = calloc(window, sizeof(double)), .out = out};
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
    }
    char *buffer = malloc(READ_SIZE);
    double begin = now(), end = begin + seconds, at = begin;
    for (size_t i = 0; i < connections; i++) {
        start(&clients[i], window, now());
        flush(&clients[i]);
    }
    while (at < end) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, 200);
        for (int i = 0; i < n; i++) {
            client *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                flush(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP))
                receive(c, buffer);
        }
        at = now();
    }
    size_t kept = latency_count < LATENCIES ? latency_count : LATENCIES;
    if (!kept) {
        fprintf(stderr, "no echo came\n");
        return 1;
    }
    qsort(latencies, kept, sizeof *latencies, compare);
    printf("%.0f %.1f %.1f\n", (double)echoes / (at - begin), latencies[kept / 2] * 1e6,
           latencies[kept * 99 / 100] * 1e6);
    return 0;
}
