#include "fake.h"

np_code np_listener_open(np_listener *l, const np_config *config, const char *address,
                         np_error *error) {
    (void)config, (void)address;
    *l = (np_listener){0};
    np_list_init(&l->armed);
    if (script_rarely(64)) {
        error->os = 98;
        return NP_E_EXISTS;
    }
    l->open = true;
    world.listeners++;
    return NP_OK;
}

np_code np_listener_attach(np_listener *l, np_port *port, np_error *error) {
    if (script_rarely(64)) {
        error->os = 12;
        return NP_E_SYSTEM;
    }
    port->listener = NP_INSTANCE_BOUND ? NULL : l;
    return NP_OK;
}

np_code np_listener_arm(np_listener *l, np_instance *instance, np_port *port, np_error *error) {
    FUZZ_CHECK(world.locks > 0);
    FUZZ_CHECK(l->open);
    if (script_rarely(32)) {
        error->os = 24;
        return NP_E_SYSTEM;
    }
    instance->operation.instance = instance;
    instance->link = (np_link){.port = port};
    fake_start(&instance->operation, NP_INSTANCE_BOUND ? &port->pending : &l->armed);
    return NP_OK;
}

void np_listener_pause(np_listener *l) { l->paused = true; }

void np_listener_resume(np_listener *l) { l->paused = false; }

/* Bound ones are found by their ports. */
static void cancel_all(np_list *list) {
    for (np_node *node = list->next; node != list; node = node->next) {
        np_operation *op = NP_ENTRY(node, np_operation, node);
        if (op->kind == NP_OP_ACCEPT)
            op->canceled = true;
    }
}

void np_listener_cancel(np_listener *l, np_port *port) {
    FUZZ_CHECK(world.locks > 0);
    cancel_all(&l->armed);
    while (!np_list_empty(&l->armed)) {
        np_node *node = l->armed.next;
        np_list_remove(node);
        np_list_append(&port->pending, node);
    }
    port->woken = true;
    if (!NP_INSTANCE_BOUND)
        return;
    /* The port is the first worker's; the others lie behind it. */
    np_worker *first = NP_ENTRY(port, np_worker, port);
    for (unsigned i = 0; i < first->endpoint->worker_count; i++) {
        cancel_all(&first[i].port.pending);
        first[i].port.woken = true;
    }
}

void np_listener_close(np_listener *l) {
    if (!l->open)
        return;
    FUZZ_CHECK(np_list_empty(&l->armed));
    l->open = false;
    world.listeners--;
}

void np_listener_abandon(np_listener *l) { (void)l; }
