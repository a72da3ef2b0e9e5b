/* Fork.  The parent's threads do not exist in the child, and locks that they
 * held stay locked for ever there.  So prepare holds the two kinds of lock the
 * child needs (the lists', and each endpoint's, which guards its connections),
 * and the child does no more than close descriptors: peers then see the parent
 * close when it does.  What the child goes on using (watches) repairs itself.
 *
 * The system calls these inside fork itself.  A host's own hooks would be too
 * far from it: what else the host does around a fork may end endpoints, which
 * takes the locks. */
#include "fork.h"

#include "internal.h"

static np_mutex lock = NP_MUTEX_INIT;
static np_list endpoints = {&endpoints, &endpoints};
static np_list watches = {&watches, &watches};

static void prepare(void);
static void in_parent(void);
static void in_child(void);

static void begin_locked(void) {
    static bool begun;
    if (!begun)
        begun = np_at_fork(prepare, in_parent, in_child);
}

void np_fork_add(np_endpoint *ep) {
    np_mutex_lock(&lock);
    begin_locked();
    np_list_append(&endpoints, &ep->fork_node);
    np_mutex_unlock(&lock);
}

void np_fork_remove(np_endpoint *ep) {
    np_mutex_lock(&lock);
    np_list_remove(&ep->fork_node);
    np_mutex_unlock(&lock);
}

void np_fork_watch_add(np_fork_watch *watch, void (*forked)(np_fork_watch *watch)) {
    watch->in_child = forked;
    np_mutex_lock(&lock);
    begin_locked();
    np_list_append(&watches, &watch->node);
    np_mutex_unlock(&lock);
}

void np_fork_watch_remove(np_fork_watch *watch) {
    np_mutex_lock(&lock);
    np_list_remove(&watch->node);
    np_mutex_unlock(&lock);
}

static void prepare(void) {
    np_mutex_lock(&lock);
    for (np_node *n = endpoints.next; n != &endpoints; n = n->next)
        np_mutex_lock(&NP_ENTRY(n, np_endpoint, fork_node)->lock);
}

static void in_parent(void) {
    for (np_node *n = endpoints.next; n != &endpoints; n = n->next)
        np_mutex_unlock(&NP_ENTRY(n, np_endpoint, fork_node)->lock);
    np_mutex_unlock(&lock);
}

static void abandon(np_endpoint *ep) {
    np_store32(&ep->forked, 1);
    for (np_node *n = ep->connections.next; n != &ep->connections; n = n->next) {
        np_connection *c = NP_ENTRY(n, np_connection, registry);
        np_link_abandon(&c->link);
        if (c->client)
            np_dial_abandon(&c->client->dial);
    }
    if (ep->listening)
        np_listener_abandon(&ep->listener);
    if (ep->closed)
        return;
    for (unsigned i = 0; i < ep->worker_count; i++)
        np_port_close(&ep->workers[i].port);
    np_signal_close(&ep->backlog.signal);
    np_signal_close(&ep->quit_signal);
}

static void in_child(void) {
    for (np_node *n = endpoints.next; n != &endpoints; n = n->next)
        abandon(NP_ENTRY(n, np_endpoint, fork_node));
    np_list_init(&endpoints);
    for (np_node *n = watches.next; n != &watches; n = n->next) {
        np_fork_watch *watch = NP_ENTRY(n, np_fork_watch, node);
        watch->in_child(watch);
    }
    np_mutex_init(&lock);
}
