/* What must come of bytes, by a second implementation that is as plain as can
 * be: the messages that a stream of bytes holds, and the bytes that accepted
 * writes must become. */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "npipes.h"

/* ---- bytes that came ----------------------------------------------------- */

typedef struct came {
    struct came *next;
    size_t size;
    uint8_t data[];
} came;

typedef struct decoder {
    uint64_t limit;                 /* max_message_size */
    bool framed;                    /* else the reads are given message by message */
    uint8_t header[12];
    unsigned header_size;
    uint8_t *body;                  /* of the message that arrives; NULL: none does */
    size_t body_size, body_capacity;
    uint64_t expected;
    came *first, **last;            /* complete, and not yet taken */
    uint64_t messages, bytes;       /* complete so far */
    np_code bad;                    /* why nothing after it counts */
    uint64_t bad_value;
} decoder;

void decoder_begin(decoder *d, bool framed, uint64_t limit);
void decoder_end(decoder *d);
/* Bytes of a stream of frames. */
void decoder_feed(decoder *d, const uint8_t *p, size_t n);
/* A part of a message of which `left` more bytes are known to come. */
void decoder_part(decoder *d, const uint8_t *p, size_t n, uint64_t left);
/* Whether the next message is this one; takes it. */
bool decoder_take(decoder *d, const uint8_t *p, size_t n);
bool decoder_is_partial(const decoder *d);

/* ---- bytes that go out --------------------------------------------------- */

/* What the host gave with a write, and has to get back as often. */
typedef struct token {
    struct token *next;
    unsigned due, sent, failed, whole;  /* whole: handed over to the platform */
    unsigned number;                /* in order of the writes */
} token;

typedef struct going {
    struct going *next;
    token *token;
    size_t size, taken;
    uint8_t data[];
} going;

/* Accepted writes in order. */
typedef struct outgoing {
    bool framed;
    going *first, **last;
    uint64_t pending;               /* bytes */
    uint64_t messages;              /* handed over whole */
    uint64_t taken;                 /* bytes, so far */
} outgoing;

void outgoing_begin(outgoing *o, bool framed);
void outgoing_end(outgoing *o);
going *outgoing_add(outgoing *o, const uint8_t *p, size_t n, token *t);
/* The newest was not accepted after all. */
void outgoing_undo(outgoing *o, unsigned count);
/* The platform took these bytes: they must be the next ones. */
void outgoing_taken(outgoing *o, const uint8_t *p, size_t n);
/* The same of one whole message, and of one byte stream's write. */
void outgoing_taken_one(outgoing *o, const uint8_t *p, size_t n);

#endif
