/* The Windows side of platform.h's structs: named pipes and a completion port.
 *
 * Who keeps what alive.  An operation begins with the OVERLAPPED the system
 * writes to; the packet that comes out of the port points at it.  A handle is
 * joined to the port of its worker before its first operation and stays with
 * it: so a started operation ends in exactly one packet of that port, whatever
 * thread started it and even if that thread has ended since.  An operation
 * that the system refuses at once gets no packet; where the contract wants a
 * completion nevertheless it goes through np_port.ready.
 *
 * What guards a field is said as in objects.h. */
#ifndef NP_PLATFORM_TYPES_H
#define NP_PLATFORM_TYPES_H

#include "win32.h"

#include "atomic.h"
#include "list.h"
#include "sync.h"

#define NP_LINK_FRAMED 0
#define NP_LINK_HOLDS_WRITES 1
#define NP_INSTANCE_BOUND 1
#define NP_PORT_WATCHABLE 0

enum { NP_PORT_ENTRIES = 256 };

typedef struct np_operation {
    OVERLAPPED overlapped;          /* first: packets are cast to operations */
    np_operation_kind kind;
    void *owner;                    /* the portable engine's */
    struct np_link *link;           /* read: where the rest of the message waits */
    uint8_t *data;                  /* read: where it goes */
    /* In np_port.ready: its lock. */
    struct np_operation *next;
    np_code ready_code;
    int ready_os;
} np_operation;

typedef struct np_port {
    HANDLE handle;                  /* constant */
    np_atomic_u32 wake_posted;      /* a wake is in the port and not yet seen */
    /* Operations that ended without a packet.  Guarded by lock: instances are
     * armed, and links written to, by any thread. */
    np_mutex lock;
    np_operation *ready, **ready_tail;
    np_atomic_u32 ready_count;      /* written with lock held */
    OVERLAPPED_ENTRY entries[NP_PORT_ENTRIES];      /* poller only */
} np_port;

/* May be moved while no operation is outstanding.  Constant from np_link_attach
 * to np_link_close, but for the buffer. */
typedef struct np_link {
    HANDLE handle;                  /* NULL: none */
    np_port *port;                  /* that handle is joined to */
    bool byte_mode;
    int64_t pid;                    /* of the peer; -1: not known */
    uint8_t *buffer;                /* for reads into no other memory; poller only */
    size_t read_size;
} np_link;

typedef struct np_instance {
    np_operation operation;         /* first: operations are cast to instances */
    np_link link;                   /* armed: the handle is here; the listener's lock */
    struct np_listener *listener;   /* constant while armed */
    np_node node;                   /* in np_listener.armed; its lock */
    bool canceled;                  /* guarded by the listener's lock */
} np_instance;

/* Poller only; its thread of the pool has the attempt. */
typedef struct np_dial {
    np_operation operation;         /* first: operations are cast to dials */
    np_port *port;
    np_link link;
    uint64_t value;                 /* 0: a SID is no number */
    struct np_attempt *attempt;     /* while it is outstanding; polling thread only */
} np_dial;

enum { NP_PIPE_PATH = 256 };        /* characters the system takes */

typedef struct np_listener {
    /* Constant, but for the descriptor: that is the lock's, too. */
    wchar_t path[NP_PIPE_PATH + 1];
    bool byte_mode;
    DWORD quota;
    void *descriptor;               /* security; LocalFree */
    np_mutex lock;                  /* guards all below */
    HANDLE spare;                   /* the first instance, until it is armed; NULL: none */
    np_list armed;
    bool closed;
} np_listener;

typedef struct np_signal {
    HANDLE event;
} np_signal;

#endif
