/* A client of a pipe that knows nothing of the engine: plain blocking calls of
 * the system.  One thread may send while another receives. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct client client;

enum {
    CLIENT_END = -1,        /* the server closed */
    CLIENT_RESET = -2,      /* it closed without reading all of it, or something failed */
    CLIENT_TIMEOUT = -3
};

/* Connects to the address; NULL when nobody serves it.  Waits for a moment for
 * a free instance where the system has such. */
client *client_connect(const char *address);
client *client_connect_bytes(const char *address);     /* without message boundaries */
/* Sends one message and waits until the system has all of it. */
bool client_send(client *c, const void *data, size_t size);
/* Sends bytes as they are. */
bool client_send_raw(client *c, const void *data, size_t size);
/* Receives one message (bytes: what is there); its size, or one of the above. */
int64_t client_receive(client *c, int timeout_ms);
/* The message that was received last; valid until the next is. */
const uint8_t *client_data(const client *c);
/* Tells the server that nothing more will be sent; false where that can't be. */
bool client_end_sending(client *c);
void client_close(client *c);

#endif
