/* Names and the addresses they stand for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "linux.h"

enum { PATH_LIMIT = sizeof(((struct sockaddr_un *)0)->sun_path) };

size_t np_runtime_directory(char *out, size_t capacity) {
    const char *dir = getenv("NPIPES_DIR");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int n;
    if (dir && *dir)
        n = snprintf(out, capacity, "%s", dir);
    else if (runtime && *runtime)
        n = snprintf(out, capacity, "%s/npipes", runtime);
    else
        n = snprintf(out, capacity, "/tmp/npipes-%lu", (unsigned long)geteuid());
    if (n < 0 || (size_t)n >= capacity)
        return 0;
    /* What is to be no link must not end so that the system follows it. */
    while (n > 1 && (out[n - 1] == '/' || (out[n - 1] == '.' && out[n - 2] == '/')))
        out[--n] = '\0';
    return (size_t)n;
}

bool np_address_is_leaf(const char *address) {
    char directory[NP_ADDRESS_MAX];
    size_t n = np_runtime_directory(directory, sizeof directory);
    return n && strncmp(address, directory, n) == 0 && address[n] == '/'
           && !strchr(address + n + 1, '/');
}

static bool is_set(const char *variable) {
    const char *value = getenv(variable);
    return value && *value;
}

bool np_address_is_open_to_all(const char *address) {
    return address[0] == '@'
           || (!is_set("NPIPES_DIR") && !is_set("XDG_RUNTIME_DIR") && np_address_is_leaf(address));
}

static np_code too_long(np_error *error, size_t length, size_t limit) {
    error->value = length;
    error->limit = limit;
    return NP_E_NAME_LONG;
}

np_code np_address(const char *name, char *out, size_t capacity, np_error *error) {
    size_t length = strlen(name);
    if (length == 0 || strcmp(name, "@") == 0)
        return NP_E_NAME_EMPTY;
    /* An abstract name has no end mark, and its '@' stands for a NUL. */
    size_t limit = name[0] == '@' ? PATH_LIMIT : PATH_LIMIT - 1;
    if (name[0] == '@' || strchr(name, '/')) {
        if (length > limit || length >= capacity)
            return too_long(error, length, limit);
        memcpy(out, name, length + 1);
        return NP_OK;
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        error->value = '.';
        return NP_E_NAME_CHAR;
    }
    char directory[NP_ADDRESS_MAX];
    size_t n = np_runtime_directory(directory, sizeof directory);
    if (n == 0 || n + 1 + length > limit)
        return too_long(error, (n ? n : sizeof directory) + 1 + length, limit);
    int written = snprintf(out, capacity, "%s/%s", directory, name);
    if (written < 0 || (size_t)written >= capacity)
        return too_long(error, n + 1 + length, capacity);
    return NP_OK;
}

socklen_t np_socket_address(struct sockaddr_un *to, const char *address) {
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    size_t length = strlen(address);
    memcpy(to->sun_path, address, length);
    if (address[0] != '@')
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    to->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}
