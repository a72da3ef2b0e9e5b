/* Keys without cryptography: what the engine must do with a host's, and peers
 * that prove a key, or try to. */
#ifndef SECRETS_H
#define SECRETS_H

#include "atomic.h"
#include "client.h"
#include "handshake.h"
#include "platform.h"

typedef struct keyring {
    const char *key;
    bool no_md5;
    np_atomic_u32 failures;         /* so many calls say that they could not */
    np_atomic_u32 calls;
    void (*check)(void *user);      /* called with every call, where not NULL */
    void *user;
} keyring;

np_secrets keyring_secrets(keyring *k);

/* The other end of a handshake, over a plain client: NP_OK, NP_E_AUTH, or NP_E_EOF
 * when the peer left. */
np_code client_handshake(client *c, keyring *k);
/* The first `steps` messages of it that a client sends, of 3. */
void client_handshake_part(client *c, keyring *k, unsigned steps);
/* The same, but the bytes that follow the handshake go out with its last message. */
np_code client_handshake_and(client *c, keyring *k, const void *data, size_t size);

#endif
