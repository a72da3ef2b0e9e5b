/* The Linux side of platform.h's structs: epoll and Unix-domain sockets.  What
 * guards a field is said as in objects.h; "the connection's lock" is what the
 * contract has its callers hold. */
#ifndef NP_PLATFORM_TYPES_H
#define NP_PLATFORM_TYPES_H

#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "atomic.h"
#include "list.h"
#include "sync.h"

#define NP_LINK_FRAMED 1
#define NP_LINK_HOLDS_WRITES 0
#define NP_INSTANCE_BOUND 0
#define NP_PORT_WATCHABLE 1

enum { NP_EPOLL_EVENTS = 256 };

/* Epoll's user data points at one of these, the first member of its owner. */
typedef enum np_source_kind { NP_SOURCE_WAKE, NP_SOURCE_LISTENER, NP_SOURCE_LINK } np_source_kind;

typedef struct np_source {
    np_source_kind kind;
} np_source;

typedef struct np_operation {
    np_operation_kind kind;
    void *owner;                    /* the portable engine's */
    /* In np_port.ready: its lock. */
    struct np_operation *next;
    np_code ready_code;
    int ready_os;
} np_operation;

typedef struct np_port {
    np_source wake;                 /* constant */
    int epoll, wake_fd;             /* constant */
    /* Operations that completed without the system's help.  Guarded by lock:
     * a stop from another thread cancels the listener's. */
    np_mutex lock;
    np_operation *ready, **ready_tail;
    np_atomic_u32 ready_count;      /* ready != NULL */
    /* Events taken from the system and not yet turned into completions.  Poller only. */
    struct epoll_event events[NP_EPOLL_EVENTS];
    int event_next, event_count;
} np_port;

typedef struct np_link {
    /* Constant from np_link_attach to np_link_close. */
    np_source source;
    int fd;
    int pid;                        /* of the peer, when it connected */
    uid_t uid;
    gid_t gid;
    np_port *port;
    size_t read_size;
    bool buffer_set;                /* SO_SNDBUF is not the default; the connection's lock */
    /* Poller only. */
    bool watching_reads;            /* epoll will tell of readable bytes */
    np_operation *read;
    uint8_t *buffer;
    size_t capacity;
    /* The pending write; taken out by whoever completes it. */
    np_atomic_ptr write;
    /* What epoll watches; guarded by mask_lock, as writers arm EPOLLOUT. */
    np_mutex mask_lock;
    uint32_t mask;
    bool in_epoll;
} np_link;

typedef struct np_instance {
    np_operation operation;
    np_link link;                   /* of who took it out of armed */
    struct np_instance *next;       /* in np_listener.armed; its lock */
} np_instance;

/* Poller only, but for fork: see np_client. */
typedef struct np_dial {
    np_operation operation;
    np_link link;                   /* fd -1: none */
    uint64_t value;
} np_dial;

enum { NP_LISTENER_PORTS = 64 };

typedef struct np_listener {
    /* Constant from np_listener_open to np_listener_close. */
    np_source source;
    int fd;
    int directory;                  /* open on the socket's directory; -1: abstract */
    char name[108];                 /* of the file in that directory */
    dev_t device;                   /* of the file this listener made */
    ino_t inode;
    gid_t group;                    /* that the file is given to; -1: none */
    np_mutex lock;                  /* guards all below */
    np_instance *armed;
    bool watched, paused;
    np_port *ports[NP_LISTENER_PORTS];
    size_t port_count;
} np_listener;

typedef struct np_signal {
    int fd;
} np_signal;

#endif
