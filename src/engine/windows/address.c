/* Names to addresses: a leaf is put behind \\.\pipe\, a whole pipe path stays
 * as it is.  Names of another form are refused here, since the system's path
 * rules would give them a meaning (\\.\pipe\..\x is not a pipe). */
#include <string.h>

#include "error.h"

static const wchar_t LOCAL[] = L"\\\\.\\pipe\\";
enum { LOCAL_SIZE = sizeof LOCAL / sizeof *LOCAL - 1 };

/* The leaf of \\server\pipe\leaf (server may be . or ?), or NULL. */
static const wchar_t *leaf_of(const wchar_t *name) {
    if (name[0] != L'\\' || name[1] != L'\\')
        return NULL;
    const wchar_t *after = wcschr(name + 2, L'\\');
    if (!after || after == name + 2 || _wcsnicmp(after, LOCAL + 3, LOCAL_SIZE - 3) != 0)
        return NULL;
    return after + LOCAL_SIZE - 3;
}

/* A slash is a backslash to the system. */
static bool is_allowed(wchar_t c) { return c >= 0x20 && c != 0x7f && c != L'\\' && c != L'/'; }

/* Dots and spaces at the end are nothing to the system: such a leaf would be the
 * directory of all pipes. */
static bool has_only_dots(const wchar_t *leaf) { return !leaf[wcsspn(leaf, L". ")]; }

static np_code check_leaf(const wchar_t *leaf, np_error *error) {
    if (!*leaf)
        return np_error_set(error, NP_E_NAME_EMPTY, 0, 0, 0);
    if (has_only_dots(leaf))
        return np_error_set(error, NP_E_NAME_CHAR, 0, *leaf, 0);
    for (; *leaf; leaf++)
        if (!is_allowed(*leaf))
            return np_error_set(error, NP_E_NAME_CHAR, 0, *leaf, 0);
    return NP_OK;
}

np_code np_address(const char *name, char *out, size_t capacity, np_error *error) {
    /* Room for a leaf that is just too long, too. */
    wchar_t wide[LOCAL_SIZE + NP_PIPE_PATH + 2];
    wchar_t *text = wide + LOCAL_SIZE;
    int count = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, NULL, 0) - 1;
    if (count == 0)
        return np_error_set(error, NP_E_NAME_EMPTY, 0, 0, 0);
    if (count < 0)
        return np_error_set(error, NP_E_NAME_CHAR, GetLastError(), 0xfffd, 0);
    if (count > NP_PIPE_PATH)
        return np_error_set(error, NP_E_NAME_LONG, 0, (uint64_t)count, NP_PIPE_PATH);
    MultiByteToWideChar(CP_UTF8, 0, name, -1, text, count + 1);

    const wchar_t *leaf = leaf_of(text);
    np_code code = check_leaf(leaf ? leaf : text, error);
    if (code != NP_OK)
        return code;
    if (!leaf) {
        memcpy(wide, LOCAL, LOCAL_SIZE * sizeof *wide);
        text = wide;
        count += LOCAL_SIZE;
    }
    if (count > NP_PIPE_PATH)
        return np_error_set(error, NP_E_NAME_LONG, 0, (uint64_t)count, NP_PIPE_PATH);
    if (!WideCharToMultiByte(CP_UTF8, 0, text, -1, out, (int)capacity, NULL, NULL))
        return np_error_set(error, NP_E_NAME_LONG, GetLastError(), (uint64_t)count, capacity);
    return NP_OK;
}
