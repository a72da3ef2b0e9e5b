/* The socket file and its directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "crew.h"
#include "host.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

static void address_of(const char *name, char out[NP_ADDRESS_MAX]) {
    np_error error;
    REQUIRE_EQUAL(np_address(name, out, NP_ADDRESS_MAX, &error), NP_OK);
}

/* What listen says for this server's name; nothing is left of the endpoint. */
static np_error refused(server *s) {
    np_host host = {0};
    np_endpoint *ep = NULL;
    np_error error = {0};
    REQUIRE_EQUAL(np_endpoint_new(&s->config, &host, &ep, &error), NP_OK);
    np_code code = np_endpoint_listen(ep, s->name, &error);
    CHECK(code != NP_OK);
    error.code = code;
    np_endpoint_release(ep);
    return error;
}

static bool exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

/* ---- the file ---------------------------------------------------------- */

static void a_stopped_server_leaves_nothing_behind(void) {
    server *s = server_new();
    server_start(s);
    char path[NP_ADDRESS_MAX];
    snprintf(path, sizeof path, "%s", server_address(s));
    CHECK(exists(path));
    server_stop(s);
    CHECK(!exists(path));
    server_release(s);
}

static void bind_and_forget(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&to, sizeof to), 0);
    close(fd);
}

static void a_socket_file_that_a_crash_left_is_replaced(void) {
    server *s = server_new();
    s->on_event = server_echo;
    char path[NP_ADDRESS_MAX];
    address_of(s->name, path);
    bind_and_forget(path);
    server_start(s);
    client *c = server_client(s);
    client_exchange(c, 100, 1);
    client_close(c);
    server_end(s);
    CHECK(!exists(path));
}

static void a_foreign_file_is_not_touched(void) {
    server *s = server_new();
    char path[NP_ADDRESS_MAX], text[10] = "";
    address_of(s->name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK_EQUAL(write(fd, "precious", 8), 8);
    close(fd);
    CHECK_EQUAL(refused(s).code, NP_E_EXISTS);
    fd = open(path, O_RDONLY);
    CHECK_EQUAL(read(fd, text, sizeof text), 8);
    CHECK(strcmp(text, "precious") == 0);
    close(fd);
    unlink(path);
    CHECK_EQUAL(symlink("/nowhere", path), 0);
    CHECK_EQUAL(refused(s).code, NP_E_EXISTS);
    CHECK(exists(path));
    unlink(path);
    CHECK_EQUAL(mkdir(path, 0700), 0);
    CHECK_EQUAL(refused(s).code, NP_E_EXISTS);
    CHECK_EQUAL(rmdir(path), 0);
    server_start(s);
    server_end(s);
}

static void only_the_servers_own_file_is_removed(void) {
    server *s = server_new();
    server_start(s);
    char path[NP_ADDRESS_MAX];
    snprintf(path, sizeof path, "%s", server_address(s));
    CHECK_EQUAL(unlink(path), 0);
    bind_and_forget(path);
    server_end(s);
    CHECK(exists(path));
    unlink(path);
}

static void a_socket_of_another_kind_is_alive(void) {
    server *s = server_new();
    char path[NP_ADDRESS_MAX];
    address_of(s->name, path);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&to, sizeof to), 0);
    CHECK_EQUAL(refused(s).code, NP_E_EXISTS);
    CHECK(exists(path));
    close(fd);
    server_start(s);
    server_end(s);
}

static mode_t mode_of(server *s) {
    struct stat st = {0};
    CHECK_EQUAL(stat(server_address(s), &st), 0);
    return st.st_mode & 0777;
}

static void access_is_the_files_mode(void) {
    static const struct {
        np_access_kind kind;
        unsigned asked;
        mode_t mode;
    } cases[] = {
        {NP_ACCESS_USER, 0, 0600},
        {NP_ACCESS_EVERYONE, 0, 0666},
        {NP_ACCESS_MODE, 0640, 0640},
    };
    static const mode_t masks[] = {0, 022, 077};
    for (unsigned i = 0; i < 9; i++) {
        mode_t before = umask(masks[i / 3]);
        server *s = server_new();
        s->config.access = cases[i % 3].kind;
        s->config.access_mode = cases[i % 3].asked;
        server_start(s);
        CHECK_EQUAL(mode_of(s), cases[i % 3].mode);
        server_end(s);
        umask(before);
    }
    server *s = server_new();
    s->config.access = NP_ACCESS_SDDL;
    CHECK_EQUAL(refused(s).code, NP_E_INVALID);
    s->config.access = NP_ACCESS_USER;
    server_start(s);
    server_end(s);
}

/* ---- names ------------------------------------------------------------- */

static void paths_and_abstract_names_work(void) {
    char leaf[NP_ADDRESS_MAX];
    address_of("x", leaf);
    for (unsigned i = 0; i < 2; i++) {
        server *s = server_new();
        if (i == 0)
            snprintf(s->name, sizeof s->name, "%.*s/../%s/y", (int)(strlen(leaf) - 2), leaf,
                     strrchr(getenv("NPIPES_DIR"), '/') + 1);
        else
            snprintf(s->name, sizeof s->name, "@npipes-test-%d", (int)getpid());
        s->on_event = server_echo;
        server_start(s);
        CHECK(strcmp(server_address(s), s->name) == 0);
        client *c = server_client(s);
        client_exchange(c, 100, i);
        np_error error = refused(s);
        CHECK_EQUAL(error.code, NP_E_EXISTS);
        client_close(c);
        server_end(s);
    }
}

static void names_that_cannot_be(void) {
    char out[NP_ADDRESS_MAX], name[200];
    np_error error = {0};
    CHECK_EQUAL(np_address("@", out, sizeof out, &error), NP_E_NAME_EMPTY);
    CHECK_EQUAL(np_address(".", out, sizeof out, &error), NP_E_NAME_CHAR);
    CHECK_EQUAL(np_address("..", out, sizeof out, &error), NP_E_NAME_CHAR);
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[107] = '\0';
    CHECK_EQUAL(np_address(name, out, sizeof out, &error), NP_OK);
    name[107] = 'x';
    name[108] = '\0';
    CHECK_EQUAL(np_address(name, out, sizeof out, &error), NP_E_NAME_LONG);
    CHECK_EQUAL(error.value, 108);
    CHECK_EQUAL(error.limit, 107);
    name[0] = '@';
    CHECK_EQUAL(np_address(name, out, sizeof out, &error), NP_OK);
    name[108] = 'x';
    name[109] = '\0';
    CHECK_EQUAL(np_address(name, out, sizeof out, &error), NP_E_NAME_LONG);
    CHECK_EQUAL(error.value, 109);
    CHECK_EQUAL(error.limit, 108);
}

static void a_directory_that_is_not_there_is_an_error(void) {
    server *s = server_new();
    char name[64];
    memcpy(name, s->name, sizeof name);
    snprintf(s->name, sizeof s->name, "/nowhere/at/all");
    np_error error = refused(s);
    CHECK_EQUAL(error.code, NP_E_SYSTEM);
    CHECK_EQUAL(error.os, ENOENT);
    CHECK_EQUAL(error.activity, NP_DOING_START);
    memcpy(s->name, name, sizeof name);
    server_start(s);
    server_end(s);
}

/* The directory of leaf names: made where there is none, refused where others
 * could reach into it. */
static void the_directory_of_leaf_names_is_private(void) {
    char before[256], path[300];
    snprintf(before, sizeof before, "%s", getenv("NPIPES_DIR"));
    snprintf(path, sizeof path, "%s/private", before);
    setenv("NPIPES_DIR", path, 1);
    server *s = server_new();
    server_start(s);
    struct stat st;
    CHECK_EQUAL(stat(path, &st), 0);
    CHECK_EQUAL(st.st_mode & 07777, 0700);
    server_end(s);
    static const mode_t modes[] = {0755, 0770, 0701};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(chmod(path, modes[i]), 0);
        s = server_new();
        np_error error = refused(s);
        CHECK_EQUAL(error.code, NP_E_DIRECTORY);
        CHECK_EQUAL(error.os, EACCES);
        CHECK_EQUAL(error.value, modes[i]);
        CHECK_EQUAL(chmod(path, 0700), 0);
        server_start(s);
        server_end(s);
    }
    CHECK_EQUAL(rmdir(path), 0);
    CHECK_EQUAL(symlink("/tmp", path), 0);
    s = server_new();
    np_error error = refused(s);
    CHECK_EQUAL(error.code, NP_E_DIRECTORY);
    CHECK_EQUAL(error.os, ENOTDIR);
    CHECK_EQUAL(unlink(path), 0);
    server_start(s);
    server_end(s);
    CHECK_EQUAL(rmdir(path), 0);
    setenv("NPIPES_DIR", before, 1);
}

/* ---- many starters ----------------------------------------------------- */

typedef struct starter {
    const char *name;
    np_endpoint *endpoint;
    np_code code;
} starter;

static void start(crew *w, unsigned number) {
    starter *x = (starter *)w->with + number;
    np_config config;
    np_error error;
    np_config_init(&config);
    np_host host = idle_host();
    CHECK_EQUAL(np_endpoint_new(&config, &host, &x->endpoint, &error), NP_OK);
    x->code = np_endpoint_listen(x->endpoint, x->name, &error);
}

static void one_of_many_starters_gets_the_name(void) {
    enum { STARTERS = 8, ROUNDS = 20 };
    char name[64], path[NP_ADDRESS_MAX];
    system_name(name, sizeof name);
    address_of(name, path);
    for (unsigned round = 0; round < ROUNDS; round++) {
        starter all[STARTERS];
        crew starters;
        unsigned started = 0;
        bind_and_forget(path);
        for (unsigned i = 0; i < STARTERS; i++)
            all[i].name = name;
        crew_start(&starters, STARTERS, start, all);
        crew_join(&starters);
        for (unsigned i = 0; i < STARTERS; i++) {
            CHECK(all[i].code == NP_OK || all[i].code == NP_E_EXISTS);
            started += all[i].code == NP_OK;
            np_endpoint_stop_begin(all[i].endpoint);
            CHECK(np_endpoint_stop_wait(all[i].endpoint, NULL, -1));
            np_endpoint_release(all[i].endpoint);
        }
        CHECK_EQUAL(started, 1);
        CHECK(!exists(path));
    }
}

const test listen_tests[] = {
    {"a stopped server leaves nothing behind", a_stopped_server_leaves_nothing_behind, EVERY_MODE},
    {"a socket file that a crash left is replaced", a_socket_file_that_a_crash_left_is_replaced,
     MODE_FREE},
    {"a foreign file is not touched", a_foreign_file_is_not_touched, MODE_FREE},
    {"only the server's own file is removed", only_the_servers_own_file_is_removed, MODE_FREE},
    {"a socket of another kind is alive", a_socket_of_another_kind_is_alive, MODE_FREE},
    {"access is the file's mode", access_is_the_files_mode, MODE_FREE},
    {"paths and abstract names work", paths_and_abstract_names_work, MODE_FREE},
    {"names that cannot be on Linux", names_that_cannot_be, 0},
    {"a directory that is not there is an error", a_directory_that_is_not_there_is_an_error,
     MODE_FREE},
    {"the directory of leaf names is private", the_directory_of_leaf_names_is_private, MODE_FREE},
    {"one of many starters gets the name", one_of_many_starters_gets_the_name, 0},
    {0},
};
