/* The Linux side of wire.h's structs: sockets, which stay in blocking mode
 * because other processes may share them; every call here says MSG_DONTWAIT. */
#ifndef NP_WIRE_TYPES_H
#define NP_WIRE_TYPES_H

#define NP_WIRE_TRIES 1

typedef struct np_wire {
    int fd;                 /* -1: closed */
    bool enlarged;          /* SO_SNDBUF */
} np_wire;

typedef struct np_wire_listener {
    np_listener listener;
    bool any_user;          /* access lets every uid in */
} np_wire_listener;

#endif
