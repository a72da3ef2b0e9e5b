/* Keys, and what the engine's handshakes ask of Python. */
#ifndef NP_SECRETS_H
#define NP_SECRETS_H

#include "state.h"

/* What `authkey` means: bytes of our own, or NULL for None.  -1 with an exception. */
int secrets_key(module_state *state, PyObject *value, PyObject **key);

/* With the GIL.  An exception is set where they fail, also by secrets_equal. */
bool secrets_random(module_state *state, uint8_t *out, size_t size);
int secrets_mac(module_state *state, PyObject *key, const char *digest, const uint8_t *message,
                size_t size, uint8_t out[NP_MAC_MAX]);
bool secrets_equal(module_state *state, const uint8_t *a, const uint8_t *b, size_t size);

/* The same for a call that waits: `thread` is its own, between KEEPER_BEGIN and
 * KEEPER_END without the GIL. */
typedef struct keeper {
    module_state *state;
    PyObject *key;
    PyThreadState *thread;
} keeper;

np_secrets keeper_secrets(keeper *k);

#define KEEPER_BEGIN(k) (k)->thread = PyEval_SaveThread();
#define KEEPER_END(k) PyEval_RestoreThread((k)->thread);

#endif
