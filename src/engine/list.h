/* An intrusive doubly linked list.  A node is in one list at most; a node that
 * is in none points at itself, so removing it twice is harmless. */
#ifndef NP_LIST_H
#define NP_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct np_node {
    struct np_node *next, *prev;
} np_node;

typedef np_node np_list;

#define NP_ENTRY(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

static inline void np_list_init(np_list *list) { list->next = list->prev = list; }
static inline bool np_list_empty(const np_list *list) { return list->next == list; }
static inline void np_list_insert_before(np_node *at, np_node *node) {
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}
static inline void np_list_append(np_list *list, np_node *node) {
    np_list_insert_before(list, node);
}
static inline void np_list_remove(np_node *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}

#endif
