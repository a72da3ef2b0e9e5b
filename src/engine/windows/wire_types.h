/* The Windows side of wire.h's structs: overlapped handles, each operation with
 * an event that its thread waits on. */
#ifndef NP_WIRE_TYPES_H
#define NP_WIRE_TYPES_H

#define NP_WIRE_TRIES 0

typedef struct np_wire {
    HANDLE handle;              /* NULL: closed */
    bool empty;                 /* a poll has taken an empty message out of the pipe */
    HANDLE received, sent;      /* events */
    OVERLAPPED receive;         /* outstanding while receiving: np_wire_receive_some */
    bool receiving;
    OVERLAPPED send;            /* outstanding while sending */
    bool sending;
} np_wire;

enum { NP_WIRE_INSTANCES = 8 };     /* that wait for clients at once */

/* Stays where it is while it is pending. */
typedef struct np_wire_instance {
    HANDLE handle;
    HANDLE connected;           /* event */
    OVERLAPPED overlapped;
    bool pending;               /* ConnectNamedPipe is outstanding */
} np_wire_instance;

typedef struct np_wire_listener {
    np_listener listener;
    np_wire_instance *instances[NP_WIRE_INSTANCES];     /* in the order they were made */
    size_t count;
} np_wire_listener;

#endif
