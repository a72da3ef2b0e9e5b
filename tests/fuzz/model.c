#include "model.h"

#include <string.h>

#include "script.h"

static void *memory(size_t size) {
    void *p = malloc(size);
    FUZZ_CHECK(p != NULL);
    return p;
}

/* ---- bytes that came ----------------------------------------------------- */

void decoder_begin(decoder *d, bool framed, uint64_t limit) {
    *d = (decoder){.framed = framed, .limit = limit};
    d->last = &d->first;
}

void decoder_end(decoder *d) {
    while (d->first) {
        came *next = d->first->next;
        free(d->first);
        d->first = next;
    }
    d->last = &d->first;
    free(d->body);
    d->body = NULL;
}

static void complete(decoder *d, const uint8_t *p, size_t n) {
    came *m = memory(sizeof *m + n);
    m->next = NULL;
    m->size = n;
    if (n)
        memcpy(m->data, p, n);
    *d->last = m;
    d->last = &m->next;
    d->messages++;
    d->bytes += n;
}

static void bad(decoder *d, np_code code, uint64_t value) {
    d->bad = code;
    d->bad_value = value;
}

static uint64_t number(const uint8_t *p, unsigned n) {
    uint64_t x = 0;
    for (unsigned i = 0; i < n; i++)
        x = x << 8 | p[i];
    return x;
}

/* One byte of a header; its message begins when the header is complete. */
static void header_byte(decoder *d, uint8_t byte) {
    uint64_t length;
    d->header[d->header_size++] = byte;
    if (d->header_size < 4)
        return;
    int64_t first = (int32_t)(uint32_t)number(d->header, 4);
    if (first < -1) {
        bad(d, NP_E_PROTOCOL, (uint32_t)first);
        return;
    }
    if (first >= 0) {
        length = (uint64_t)first;
    } else {
        if (d->header_size < 12)
            return;
        length = number(d->header + 4, 8);
        if (length >> 63) {
            bad(d, NP_E_PROTOCOL, length);
            return;
        }
    }
    d->header_size = 0;
    if (length > d->limit) {
        bad(d, NP_E_TOO_LARGE, length);
        return;
    }
    d->expected = length;
    d->body = memory(length ? length : 1);
    d->body_capacity = length;
    d->body_size = 0;
}

static void body_done(decoder *d) {
    complete(d, d->body, d->body_size);
    free(d->body);
    d->body = NULL;
}

void decoder_feed(decoder *d, const uint8_t *p, size_t n) {
    while (n && !d->bad) {
        if (!d->body) {
            header_byte(d, *p++);
            n--;
        } else {
            size_t take = d->expected - d->body_size < n ? d->expected - d->body_size : n;
            memcpy(d->body + d->body_size, p, take);
            d->body_size += take;
            p += take;
            n -= take;
        }
        if (d->body && d->body_size == d->expected)
            body_done(d);
    }
}

void decoder_part(decoder *d, const uint8_t *p, size_t n, uint64_t left) {
    if (d->bad)
        return;
    size_t so_far = d->body ? d->body_size : 0;
    if (so_far + n + left > d->limit) {
        bad(d, NP_E_TOO_LARGE, so_far + n + left);
        return;
    }
    uint8_t *body = realloc(d->body, so_far + n + 1);
    FUZZ_CHECK(body != NULL);
    if (n)
        memcpy(body + so_far, p, n);
    d->body = body;
    d->body_size = so_far + n;
    d->expected = d->body_size + left;
    if (!left)
        body_done(d);
}

bool decoder_take(decoder *d, const uint8_t *p, size_t n) {
    came *m = d->first;
    if (!m || m->size != n || (n && memcmp(m->data, p, n) != 0))
        return false;
    d->first = m->next;
    if (!d->first)
        d->last = &d->first;
    free(m);
    return true;
}

bool decoder_is_partial(const decoder *d) { return d->body || d->header_size; }

/* ---- bytes that go out --------------------------------------------------- */

void outgoing_begin(outgoing *o, bool framed) {
    *o = (outgoing){.framed = framed};
    o->last = &o->first;
}

void outgoing_end(outgoing *o) {
    while (o->first) {
        going *next = o->first->next;
        free(o->first);
        o->first = next;
    }
    o->last = &o->first;
    o->pending = 0;
}

going *outgoing_add(outgoing *o, const uint8_t *p, size_t n, token *t) {
    size_t header = o->framed ? 4 : 0;
    going *g = memory(sizeof *g + header + n);
    *g = (going){.token = t, .size = header + n};
    for (unsigned i = 0; i < header; i++)
        g->data[i] = (uint8_t)((uint64_t)n >> (24 - 8 * i));
    if (n)
        memcpy(g->data + header, p, n);
    *o->last = g;
    o->last = &g->next;
    o->pending += g->size;
    return g;
}

void outgoing_undo(outgoing *o, unsigned count) {
    unsigned total = 0;
    for (going *g = o->first; g; g = g->next)
        total++;
    FUZZ_CHECK(total >= count);
    going **at = &o->first;
    for (unsigned i = 0; i + count < total; i++)
        at = &(*at)->next;
    o->last = at;
    while (*at) {
        going *g = *at;
        FUZZ_CHECK(!g->taken);
        *at = g->next;
        o->pending -= g->size;
        free(g);
    }
}

static void whole(outgoing *o) {
    going *g = o->first;
    o->first = g->next;
    if (!o->first)
        o->last = &o->first;
    o->messages++;
    if (g->token)
        g->token->whole++;
    free(g);
}

void outgoing_taken(outgoing *o, const uint8_t *p, size_t n) {
    o->pending -= n;
    o->taken += n;
    while (n || (o->first && !o->first->size)) {
        going *g = o->first;
        FUZZ_CHECK(g != NULL);
        size_t part = g->size - g->taken < n ? g->size - g->taken : n;
        FUZZ_CHECK(!part || memcmp(g->data + g->taken, p, part) == 0);
        g->taken += part;
        if (part)
            p += part;
        n -= part;
        if (g->taken == g->size)
            whole(o);
    }
}

void outgoing_taken_one(outgoing *o, const uint8_t *p, size_t n) {
    going *g = o->first;
    FUZZ_CHECK(g != NULL);
    FUZZ_CHECK(g->size == n);
    FUZZ_CHECK(!n || memcmp(g->data, p, n) == 0);
    o->pending -= n;
    o->taken += n;
    whole(o);
}
