/* The scripted platform from the driver's side: the script decides what
 * completes, when, and how; every call is checked against platform.h. */
#ifndef FAKE_H
#define FAKE_H

#include "internal.h"
#include "model.h"
#include "script.h"

/* The other end of one connection. */
typedef struct fake_peer {
    struct fake_peer *next;         /* of all */
    bool byte_mode;
    bool open;                      /* the engine's end is */
    np_operation *read, *write;     /* outstanding */
    uint8_t *bytes;                 /* sent, and not yet read */
    size_t at, size;
    bool leaves;                    /* after these */
    bool has_left;                  /* and the engine knows */
    bool failed;                    /* an operation did, other than by a cancel */
    decoder in;
    outgoing out;
} fake_peer;

typedef struct fake_world {
    np_config config;               /* of the endpoint */
    int64_t now;
    unsigned locks;                 /* that are held */
    unsigned outside;               /* code of a thread that polls nothing runs */
    bool quiet;                     /* nothing fails any more, and peers leave */
    unsigned operations, ports, signals, listeners, links;
    unsigned clients;               /* that may still come */
    size_t large;                   /* bytes of large messages that may still be made */
    fake_peer *peers;
    unsigned inject; /* the unlock after which another thread runs, from 1; 0: none */
    /* What else happens: while a port is waited on, after that unlock, while a
     * thread waits for another one, and when one is joined. */
    void (*others)(np_port *port, int64_t timeout_ns);
    void (*interrupts)(void);
    void (*blocked)(void);
    void (*joined)(np_thread thread);
} fake_world;

extern fake_world world;

void world_begin(void);
/* Checks that everything was given back. */
void world_end(void);

/* link.c */
fake_peer *fake_peer_new(np_link *link);
void fake_read_completed(np_operation *op, np_port *port, np_completion *out);
void fake_write_completed(np_operation *op, np_completion *out);
/* port.c */
void fake_start(np_operation *op, np_list *list);
uint8_t *fake_block(np_port *port, size_t size);
/* send.c: the peer sends something, or leaves. */
void fake_peer_sends(fake_peer *p);

#endif
