#include "buffer.h"

#include <stdlib.h>

np_buffer *np_buffer_new(size_t capacity) {
    if (capacity > SIZE_MAX - sizeof(np_buffer))
        return NULL;
    np_buffer *b = malloc(sizeof *b + capacity);
    if (!b)
        return NULL;
    *b = (np_buffer){.data = (uint8_t *)(b + 1), .capacity = capacity};
    np_store32(&b->refs, 1);
    return b;
}

np_buffer *np_buffer_wrap(const void *data, size_t size, const np_buffer_ops *ops, void *owner) {
    np_buffer *b = malloc(sizeof *b);
    if (!b)
        return NULL;
    *b = (np_buffer){.data = (uint8_t *)(uintptr_t)data,
                     .size = size,
                     .capacity = size,
                     .ops = ops,
                     .owner = owner};
    np_store32(&b->refs, 1);
    return b;
}

uint8_t *np_buffer_data(np_buffer *buffer) { return buffer->data; }

size_t np_buffer_size(const np_buffer *buffer) { return buffer->size; }

void np_buffer_set(np_buffer *buffer, void *owner, void *data, size_t capacity) {
    buffer->owner = owner;
    buffer->data = data;
    buffer->capacity = capacity;
}

void *np_buffer_owner(const np_buffer *buffer) { return buffer->owner; }

void np_buffer_retain(np_buffer *buffer) { np_add32(&buffer->refs, 1); }

void np_buffer_free(np_buffer *buffer) { free(buffer); }

bool np_buffer_drop(np_buffer *buffer) {
    if (np_add32(&buffer->refs, (uint32_t)-1) != 1)
        return false;
    if (buffer->owner)
        return true;
    free(buffer);
    return false;
}

np_buffer *np_buffer_resize(np_buffer *buffer, size_t capacity) {
    if (buffer->owner)
        return buffer->ops->grow(buffer, capacity) ? buffer : NULL;
    if (capacity > SIZE_MAX - sizeof *buffer)
        return NULL;
    np_buffer *b = realloc(buffer, sizeof *b + capacity);
    if (!b)
        return NULL;
    b->data = (uint8_t *)(b + 1);
    b->capacity = capacity;
    return b;
}
