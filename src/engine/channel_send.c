/* Sending by a channel: small messages are gathered and go out together. */
#include "channel.h"

#include <stdlib.h>
#include <string.h>

enum { COPY_MAX = 8 << 10 };        /* larger ones go out from where they are */

/* Fills the stage with headers and small messages; a larger one ends it. */
static void fill_stage(np_channel *c, np_outgoing *out) {
    out->staged = out->sent = 0;
    while (out->next < out->count) {
        const np_slice *m = &out->messages[out->next];
        size_t need = NP_HEADER_MAX + (m->size <= COPY_MAX ? m->size : 0);
        if (out->staged + need > NP_CHANNEL_STAGE)
            return;
        out->staged += np_frame_encode(c->stage + out->staged, m->size);
        out->next++;
        if (m->size > COPY_MAX) {
            out->rest = *m;
            return;
        }
        if (m->size)
            memcpy(c->stage + out->staged, m->data, m->size);
        out->staged += m->size;
    }
}

static void advance(np_outgoing *out, size_t taken) {
    size_t from_stage = out->staged - out->sent;
    if (from_stage > taken)
        from_stage = taken;
    out->sent += from_stage;
    taken -= from_stage;
    if (taken) {
        out->rest.data += taken;
        out->rest.size -= taken;
    }
}

/* NP_OK: all went out. */
static np_code send_framed(np_channel *c, np_outgoing *out, const np_wait *wait, int *os) {
    if (!c->stage && !(c->stage = malloc(NP_CHANNEL_STAGE)))
        return NP_E_MEMORY;
    for (;;) {
        if (out->sent == out->staged && !out->rest.size) {
            if (out->next == out->count)
                return NP_OK;
            fill_stage(c, out);
        }
        np_slice slices[2];
        size_t count = 0, taken = 0;
        if (out->sent < out->staged)
            slices[count++] = (np_slice){c->stage + out->sent, out->staged - out->sent};
        if (out->rest.size)
            slices[count++] = out->rest;
        np_code code = np_wire_send(&c->wire, slices, count, wait, &taken, os);
        if (code != NP_OK)
            return code;
        advance(out, taken);
    }
}

static np_code send_whole(np_channel *c, np_outgoing *out, const np_wait *wait, np_error *error) {
    for (; out->next < out->count; out->next++) {
        const np_slice *message = &out->messages[out->next];
        size_t taken;
        np_code code = np_wire_send(&c->wire, message, 1, wait, &taken, &error->os);
        out->waiting = code == NP_E_INTERRUPTED;
        error->value = message->size;
        error->limit = UINT32_MAX;
        if (code != NP_OK) {
            /* What the peer has of a cancelled message is not known. */
            if (code == NP_E_TIMEOUT || code == NP_E_CLOSED)
                out->begun = true;
            return code;
        }
    }
    return NP_OK;
}

np_code np_channel_send(np_channel *c, np_outgoing *out, np_wait *wait, np_error *error) {
    *error = (np_error){.activity = NP_DOING_SEND};
    np_code code = NP_OK;
    if (wait->deadline != NP_AT_ONCE)
        code = np_gate_arm(&c->gate, wait, error);
    if (code == NP_OK)
        code = NP_LINK_FRAMED ? send_framed(c, out, wait, &error->os)
                              : send_whole(c, out, wait, error);
    out->done = code == NP_OK;
    np_store32(&c->asked, 1);
    error->activity = NP_DOING_SEND;
    error->code = code;
    return code;
}

np_code np_channel_send_begin(np_channel *c, const np_wait *wait, np_error *error) {
    np_code code = np_gate_enter(&c->gate, &c->sending, wait);
    if (code == NP_OK && c->half_sent) {
        code = NP_E_HALF_SENT;
        if (np_gate_leave(&c->gate, &c->sending))
            np_wire_close(&c->wire);
    }
    if (code != NP_OK)
        *error = (np_error){.code = code, .activity = NP_DOING_SEND};
    return code;
}

/* Whether the peer may have a part of a message that will not go on. */
static bool is_inside(const np_outgoing *out) {
    if (NP_LINK_FRAMED)
        return out->sent && (out->sent < out->staged || out->rest.size);
    return out->begun && !out->done;
}

void np_channel_send_end(np_channel *c, np_outgoing *out) {
    if (out->waiting && !np_wire_send_stop(&c->wire))
        c->half_sent = true;
    if (is_inside(out))
        c->half_sent = true;
    if (np_gate_leave(&c->gate, &c->sending))
        np_wire_close(&c->wire);
}
