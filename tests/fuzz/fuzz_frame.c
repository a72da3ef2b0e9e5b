/* Bytes to messages: a stream of any bytes, in pieces of any size, must give
 * the messages and the error that a second decoder finds in it. */
#include <string.h>

#include "host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A length is written as it is read. */
static void check_header(const uint8_t *data, size_t size) {
    unsigned header;
    uint64_t length;
    uint8_t again[NP_HEADER_MAX];
    if (np_frame_decode(data, size, &header, &length) != NP_FRAME_OK)
        return;
    FUZZ_CHECK(header <= size && length <= INT64_MAX);
    unsigned made = np_frame_encode(again, length);
    FUZZ_CHECK(made <= header);
    FUZZ_CHECK(made < header || memcmp(again, data, made) == 0);
}

/* An endpoint of nothing but what the inbound side looks at. */
typedef struct bench {
    np_endpoint endpoint;
    np_worker worker;
    np_connection connection;
    np_batch batch;
    decoder expected;
} bench;

static bench *bench_new(void) {
    static const uint64_t limits[] = {64 << 20, 200000, 10};
    static const size_t reads[] = {131072, 7};
    bench *b = calloc(1, sizeof *b);
    FUZZ_CHECK(b != NULL);
    np_config *config = &b->endpoint.config;
    config->continuous_read = true;
    config->max_message_size = limits[script_below(3)];
    config->message_buffer_size = reads[script_below(2)];
    b->worker.endpoint = &b->endpoint;
    b->connection.endpoint = &b->endpoint;
    b->connection.worker = &b->worker;
    b->connection.held_tail = &b->connection.held;
    FUZZ_CHECK(np_batch_open(&b->batch, &b->worker));
    decoder_begin(&b->expected, true, config->max_message_size);
    return b;
}

/* As the host would: with the room that is asked for, or a little more. */
static void make_wanted(bench *b) {
    np_connection *c = b->batch.wanted;
    b->batch.wanted = NULL;
    if (!c)
        return;
    size_t capacity = c->wanted_capacity + script_byte();
    np_buffer *made = c->arriving ? np_buffer_resize(c->arriving, capacity)
                                  : np_buffer_new(capacity);
    FUZZ_CHECK(made && np_inbound_buffer_ready(c, made));
}

static void take_events(bench *b) {
    for (size_t i = 0; i < b->batch.count; i++) {
        np_event *e = &b->batch.events[i];
        FUZZ_CHECK(e->kind == NP_EVENT_MESSAGE);
        FUZZ_CHECK(decoder_take(&b->expected, e->u.message.data, e->u.message.size));
        if (e->u.message.buffer)
            np_buffer_drop(e->u.message.buffer);
    }
    FUZZ_CHECK(!b->expected.first);
    np_batch_reset(&b->batch);
}

/* One read: at most n bytes of what comes. */
static np_code read_once(bench *b, const uint8_t *data, size_t size, size_t *used,
                         np_error *error) {
    size_t capacity = 0;
    uint8_t *into = np_inbound_target(&b->connection, &capacity);
    size_t n = script_below(2) ? 1 + script_byte() : size;
    n = n < size ? n : size;
    if (into && n > capacity)
        n = capacity;
    uint8_t *block = into ? NULL : malloc(n);
    FUZZ_CHECK(into || block);
    FUZZ_CHECK(n > 0);
    memcpy(into ? into : block, data, n);
    np_completion done = {.bytes = n, .data = into ? into : block};
    np_code code = np_inbound_feed(&b->connection, &b->batch, &done, error);
    decoder_feed(&b->expected, data, n);
    make_wanted(b);
    take_events(b);
    free(block);
    *used = n;
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* The end of the input is the script, the rest is the stream. */
    size_t script = size < 8 ? 0 : data[size - 1] % (size / 2);
    check_header(data, size);
    script_begin(data + size - script, script);
    bench *b = bench_new();
    np_error error = {0};
    np_code code = NP_OK;
    size_t at = 0, used;
    while (at < size - script && code == NP_OK) {
        code = read_once(b, data + at, size - script - at, &used, &error);
        at += used;
    }
    FUZZ_CHECK(code == b->expected.bad);
    FUZZ_CHECK(!code || error.value == b->expected.bad_value);
    FUZZ_CHECK(code || np_inbound_is_partial(&b->connection) == decoder_is_partial(&b->expected));
    FUZZ_CHECK(np_load64(&b->worker.messages_in) == b->expected.messages);
    FUZZ_CHECK(np_load64(&b->worker.bytes_in) == b->expected.bytes);
    np_inbound_clear(&b->connection);
    np_batch_close(&b->batch);
    decoder_end(&b->expected);
    free(b);
    return 0;
}
