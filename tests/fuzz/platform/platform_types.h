/* The scripted platform's side of platform.h's structs.  It is built with the
 * traits of either real platform. */
#ifndef NP_PLATFORM_TYPES_H
#define NP_PLATFORM_TYPES_H

#include "atomic.h"
#include "list.h"
#include "sync.h"

#ifdef FUZZ_MESSAGES                /* as under Windows */
#define NP_LINK_FRAMED 0
#define NP_LINK_HOLDS_WRITES 1
#define NP_INSTANCE_BOUND 1
#else                               /* as under Linux */
#define NP_LINK_FRAMED 1
#define NP_LINK_HOLDS_WRITES 0
#define NP_INSTANCE_BOUND 0
#endif
#define NP_PORT_WATCHABLE 0

struct fake_peer;
struct np_instance;
struct np_dial;

typedef struct np_operation {
    np_operation_kind kind;
    void *owner;                    /* the portable engine's */
    np_node node;                   /* in np_port.pending, or np_listener.armed */
    bool outstanding, canceled;
    struct fake_peer *peer;         /* read, write */
    struct np_instance *instance;
    struct np_dial *dial;
    uint8_t *buffer;                /* read: NULL: the platform's memory */
    size_t capacity;
    const uint8_t *data;            /* write that holds its bytes */
    size_t size;
} np_operation;

typedef struct np_port {
    np_list pending;
    struct np_listener *listener;   /* attached */
    bool woken;
    void **blocks;                  /* memory of the batch's reads */
    size_t block_count, block_capacity;
} np_port;

typedef struct np_link {
    struct fake_peer *peer;         /* stays after the close */
    bool open;
    np_port *port;
    size_t read_size;
} np_link;

typedef struct np_instance {
    np_operation operation;
    np_link link;
} np_instance;

typedef struct np_dial {
    np_operation operation;
    np_link link;
    uint64_t value;
} np_dial;

typedef struct np_listener {
    np_list armed;                  /* unbound */
    bool open, paused;
} np_listener;

typedef struct np_signal {
    bool open, set;
} np_signal;

#endif
