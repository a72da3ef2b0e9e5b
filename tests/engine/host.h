/* The inside of a server: what it gives the engine as its host. */
#ifndef HOST_H
#define HOST_H

#include "server.h"

np_host host_of(server *s);
/* One that takes no notice of what it is told. */
np_host idle_host(void);
/* A peer without a connection yet, and its way into the server's table. */
peer *host_peer_new(server *s);
void host_peer_add(peer *p);
/* Gives back what server_token made. */
void host_free_tokens(server *s);

#endif
