#include "outbox.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"

enum { CHUNK_LARGE = 64 * 1024, RECORDS_KEPT = 8 };

static bool reserve_records(np_outbox *out, uint32_t count) {
    if (out->count + count <= out->capacity)
        return true;
    uint32_t capacity = out->capacity ? out->capacity * 2 : 1;
    while (capacity < out->count + count)
        capacity *= 2;
    np_record *records = malloc(capacity * sizeof *records);
    if (!records)
        return false;
    for (uint32_t i = 0; i < out->count; i++)
        records[i] = out->records[(out->head + i) & (out->capacity - 1)];
    free(out->records);
    out->records = records;
    out->head = 0;
    out->capacity = capacity;
    return true;
}

/* Room for the sent list is made when a record is added, so that handing over
 * can't fail. */
static bool reserve_sent(np_outbox *out, uint32_t records) {
    size_t needed = out->sent_count + out->count + records;
    if (needed <= out->sent_capacity)
        return true;
    size_t capacity = needed * 2;
    void **sent = realloc(out->sent, capacity * sizeof *sent);
    if (!sent)
        return false;
    out->sent = sent;
    out->sent_capacity = capacity;
    return true;
}

static uint8_t *reserve_bytes(np_outbox *out, np_chunk_pool *pool, size_t n) {
    np_chunk *last = out->last;
    if (last && last->capacity - last->tail >= n)
        return last->data + last->tail;
    size_t capacity = last ? (size_t)last->capacity * 2 : out->chunk_hint;
    if (capacity > CHUNK_LARGE)
        capacity = CHUNK_LARGE;
    np_chunk *chunk = np_chunk_new(pool, capacity < n ? n : capacity);
    if (!chunk)
        return NULL;
    if (last)
        last->next = chunk;
    else
        out->first = chunk;
    out->last = chunk;
    return chunk->data;
}

/* Enters what extended the last record. */
static void enter_extensions(np_outbox *out) {
    if (!out->extensions)
        return;
    np_record *r = &out->records[(out->head + out->count - 1) & (out->capacity - 1)];
    uint32_t bytes = out->last->tail - out->entered;
    r->size += bytes;
    r->inline_size += bytes;
    r->payload += bytes - (uint64_t)out->extensions * NP_HEADER_MIN;
    r->messages += out->extensions;
    out->entered = out->last->tail;
    out->extensions = 0;
    out->extendable = r->inline_size < NP_MERGED_MAX;
}

bool np_outbox_begin(np_outbox *out, np_chunk_pool *pool, size_t size) {
    if (!reserve_records(out, 1) || !reserve_bytes(out, pool, size + NP_HEADER_MIN))
        return false;
    out->records[out->head] = (np_record){0};
    out->count = 1;
    out->extendable = true;
    out->entered = 0;
    return true;
}

bool np_outbox_reserve(np_outbox *out, np_chunk_pool *pool, uint32_t records, size_t bytes,
                       bool report) {
    enter_extensions(out);
    out->extendable = false;        /* the last chunk may be another one from here on */
    return reserve_records(out, records) && (!report || reserve_sent(out, records))
           && (!bytes || reserve_bytes(out, pool, bytes));
}

bool np_outbox_add(np_outbox *out, np_chunk_pool *pool, const np_record *record,
                   const uint8_t *header, unsigned header_size, const void *data, size_t size,
                   bool merge) {
    np_buffer *held = record->held;
    size_t inline_size = header_size + (held ? 0 : size);
    enter_extensions(out);
    if (!reserve_records(out, 1) || (record->report && !reserve_sent(out, 1)))
        return false;
    if (inline_size) {
        uint8_t *to = reserve_bytes(out, pool, inline_size);
        if (!to)
            return false;
        if (header_size)
            memcpy(to, header, header_size);
        if (!held && size)
            memcpy(to + header_size, data, size);
        out->last->tail += (uint32_t)inline_size;
    }
    out->bytes += (uint64_t)header_size + size;
    out->extendable = merge && header_size == NP_HEADER_MIN && !held && !record->report;
    out->entered = inline_size ? out->last->tail : 0;
    if (merge && out->count && !held && !record->report) {
        np_record *tail = &out->records[(out->head + out->count - 1) & (out->capacity - 1)];
        if (!tail->held && !tail->report && tail->size < NP_MERGED_MAX) {
            tail->size += inline_size;
            tail->payload += size;
            tail->inline_size += (uint32_t)inline_size;
            tail->messages++;
            return true;
        }
    }
    np_record *r = &out->records[(out->head + out->count) & (out->capacity - 1)];
    *r = *record;
    r->size = (uint64_t)header_size + size;
    r->payload = size;
    r->inline_size = (uint32_t)inline_size;
    r->messages = 1;
    out->count++;
    out->held_count += held != NULL;
    return true;
}

static size_t gather_chunks(const np_outbox *out, np_slice *slices, size_t max) {
    size_t n = 0;
    for (const np_chunk *c = out->first; c && n < max; c = c->next)
        if (c->tail > c->head)
            slices[n++] = (np_slice){c->data + c->head, c->tail - c->head};
    return n;
}

size_t np_outbox_gather(np_outbox *out, np_slice *slices, size_t max, bool one) {
    if (!one && out->held_count == 0)
        return gather_chunks(out, slices, max);
    enter_extensions(out);
    size_t n = 0;
    const np_chunk *chunk = out->first;
    uint32_t at = chunk ? chunk->head : 0;
    uint64_t skip = out->head_taken;
    uint32_t records = one ? 1 : out->count;
    for (uint32_t i = 0; i < records && n < max; i++) {
        const np_record *r = &out->records[(out->head + i) & (out->capacity - 1)];
        uint32_t rest = skip >= r->inline_size ? 0 : r->inline_size - (uint32_t)skip;
        /* Merged writes may lie in several chunks. */
        while (rest && n < max) {
            while (at == chunk->tail) {
                chunk = chunk->next;
                at = chunk->head;
            }
            uint32_t here = chunk->tail - at < rest ? chunk->tail - at : rest;
            const uint8_t *p = chunk->data + at;
            if (n && slices[n - 1].data + slices[n - 1].size == p)
                slices[n - 1].size += here;
            else
                slices[n++] = (np_slice){p, here};
            at += here;
            rest -= here;
        }
        if (r->held && n < max) {
            uint64_t done = skip > r->inline_size ? skip - r->inline_size : 0;
            slices[n++] = (np_slice){r->held->data + done,
                                     (size_t)(r->size - r->inline_size - done)};
        }
        if (r->size == 0 && one)
            slices[n++] = (np_slice){(const uint8_t *)"", 0};
        skip = 0;
    }
    return n;
}

static void consume_bytes(np_outbox *out, np_chunk_pool *pool, uint64_t n) {
    while (n) {
        np_chunk *c = out->first;
        uint32_t have = c->tail - c->head;
        uint32_t take = n < have ? (uint32_t)n : have;
        c->head += take;
        n -= take;
        if (c->head == c->tail && c->next) {
            out->first = c->next;
            np_chunk_free(pool, c);
        }
    }
}

/* Nothing waits: an idle connection keeps no memory for bytes, and the next
 * burst gets it in one piece. */
static void settle(np_outbox *out, np_chunk_pool *pool) {
    if (out->count)
        return;
    out->extendable = false;
    /* More than one where room was reserved that no bytes came to need. */
    while (out->first) {
        np_chunk *next = out->first->next;
        np_chunk_free(pool, out->first);
        out->first = next;
    }
    out->last = NULL;
    if (out->capacity > RECORDS_KEPT) {
        free(out->records);
        out->records = NULL;
        out->capacity = out->head = 0;
    }
}

np_record np_outbox_pop(np_outbox *out, np_chunk_pool *pool) {
    enter_extensions(out);
    np_record r = out->records[out->head];
    uint64_t inline_taken = out->head_taken < r.inline_size ? out->head_taken : r.inline_size;
    consume_bytes(out, pool, r.inline_size - inline_taken);
    out->bytes -= r.size - out->head_taken;
    out->head_taken = 0;
    out->head = (out->head + 1) & (out->capacity - 1);
    out->count--;
    out->held_count -= r.held != NULL;
    settle(out, pool);
    return r;
}

/* What most advances are: all of one record, which lies in one chunk. */
static bool take_all(np_outbox *out, np_chunk_pool *pool, uint64_t n, np_tally *whole) {
    const np_record *r = &out->records[out->head];
    if (n != out->bytes || out->count != 1 || out->first != out->last || r->held || r->report)
        return false;
    whole->messages += r->messages;
    whole->bytes += r->payload;
    out->bytes = out->head_taken = 0;
    out->count = 0;
    settle(out, pool);
    return true;
}

void np_outbox_advance(np_outbox *out, np_chunk_pool *pool, uint64_t n, bool one,
                       np_buffer **released, np_tally *whole) {
    enter_extensions(out);
    if (n > out->chunk_hint)
        out->chunk_hint = n < CHUNK_LARGE ? (uint32_t)n : CHUNK_LARGE;
    else
        out->chunk_hint -= out->chunk_hint / 16;
    if (take_all(out, pool, n, whole))
        return;
    while (out->count) {
        const np_record *head = &out->records[out->head];
        uint64_t rest = head->size - out->head_taken;
        if (n < rest) {
            uint64_t in_chunks = out->head_taken < head->inline_size
                                     ? head->inline_size - out->head_taken
                                     : 0;
            consume_bytes(out, pool, n < in_chunks ? n : in_chunks);
            out->head_taken += n;
            out->bytes -= n;
            break;
        }
        n -= rest;
        np_record r = np_outbox_pop(out, pool);
        whole->messages += r.messages;
        whole->bytes += r.payload;
        if (r.report)
            out->sent[out->sent_count++] = r.cookie;
        if (r.held && np_buffer_drop(r.held)) {
            r.held->next = *released;
            *released = r.held;
        }
        if (one || n == 0)
            break;
    }
}

void np_outbox_clear(np_outbox *out) {
    while (out->first) {
        np_chunk *next = out->first->next;
        free(out->first);
        out->first = next;
    }
    free(out->records);
    free(out->sent);
    *out = (np_outbox){0};
}
