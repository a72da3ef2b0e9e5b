/* Directories and socket files that somebody swaps for others between a look at
 * them and their use.  The program's own bind() and geteuid(), which the engine
 * calls in between, do it. */
#undef _GNU_SOURCE          /* which declares bind() with a type that can't be written */
#define _DEFAULT_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux_suites.h"
#include "server.h"
#include "system.h"

/* Other threads look and bind as well. */
static NP_THREAD_LOCAL void (*before_bind)(void), (*after_bind)(void), (*after_look)(void);

static void once(void (**hook)(void)) {
    void (*function)(void) = *hook;
    *hook = NULL;
    if (function)
        function();
}

int bind(int fd, const struct sockaddr *to, socklen_t size) {
    once(&before_bind);
    int r = (int)syscall(SYS_bind, fd, to, size);
    int os = errno;
    once(&after_bind);
    errno = os;
    return r;
}

uid_t geteuid(void) {
    once(&after_look);
    return (uid_t)syscall(SYS_geteuid);
}

/* ---- a place ----------------------------------------------------------- */

static char top[40], directory[60], aside[60], theirs[60], victim[60];
static char *old_directory;

static void place_open(void) {
    strcpy(top, "/tmp/np-swaps-XXXXXX");
    REQUIRE(mkdtemp(top) != NULL);
    snprintf(directory, sizeof directory, "%s/d", top);
    snprintf(aside, sizeof aside, "%s/a", top);
    snprintf(theirs, sizeof theirs, "%s/t", top);
    snprintf(victim, sizeof victim, "%s/v", top);
    CHECK_EQUAL(mkdir(directory, 0700), 0);
    CHECK_EQUAL(mkdir(theirs, 0700), 0);
    close(open(victim, O_WRONLY | O_CREAT, 0600));
    const char *old = getenv("NPIPES_DIR");
    old_directory = old ? strdup(old) : NULL;
    setenv("NPIPES_DIR", directory, 1);
}

static void place_close(void) {
    char command[80];
    if (old_directory)
        setenv("NPIPES_DIR", old_directory, 1);
    else
        unsetenv("NPIPES_DIR");
    free(old_directory);
    snprintf(command, sizeof command, "rm -rf %s", top);
    CHECK_EQUAL(system(command), 0);
}

static void put_a_link(void) {
    CHECK_EQUAL(rename(directory, aside), 0);
    CHECK_EQUAL(symlink(theirs, directory), 0);
}

static void put_an_open_directory(void) {
    CHECK_EQUAL(rename(directory, aside), 0);
    CHECK_EQUAL(mkdir(directory, 0700), 0);
    CHECK_EQUAL(chmod(directory, 0777), 0);
}

/* What listen says, which must not be that it does. */
static np_code start(const char *name, np_error *error) {
    np_config config;
    np_host host = {0};
    np_endpoint *ep = NULL;
    np_config_init(&config);
    config.access = NP_ACCESS_EVERYONE;
    REQUIRE_EQUAL(np_endpoint_new(&config, &host, &ep, error), NP_OK);
    np_code code = np_endpoint_listen(ep, name, error);
    if (code != NP_OK)
        np_endpoint_release(ep);
    return code;
}

/* ---- tests ------------------------------------------------------------- */

static void a_link_that_comes_after_the_look_is_not_followed(void) {
    np_error error = {0};
    place_open();
    after_look = put_a_link;
    CHECK(start("demo", &error) != NP_OK);
    CHECK(after_look == NULL);
    CHECK_EQUAL(rmdir(theirs), 0);      /* nothing is in it */
    place_close();
}

static void a_directory_that_comes_after_the_look_is_looked_at(void) {
    np_error error = {0};
    place_open();
    after_look = put_an_open_directory;
    CHECK_EQUAL(start("demo", &error), NP_E_DIRECTORY);
    CHECK_EQUAL(error.value, 0777);
    CHECK_EQUAL(rmdir(directory), 0);
    place_close();
}

static void a_directory_that_comes_before_the_bind_has_no_server(void) {
    np_error error = {0};
    place_open();
    before_bind = put_a_link;
    CHECK(start("demo", &error) != NP_OK);
    CHECK(before_bind == NULL);
    CHECK_EQUAL(rmdir(aside), 0);
    place_close();
}

static void a_directory_with_slashes_behind_it_is_not_followed(void) {
    static const char *const ends[] = {"/", "//", "/.", "/./"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        np_error error = {0};
        char path[80];
        place_open();
        put_a_link();
        snprintf(path, sizeof path, "%s%s", directory, ends[i]);
        setenv("NPIPES_DIR", path, 1);
        CHECK_EQUAL(start("demo", &error), NP_E_DIRECTORY);
        CHECK_EQUAL(error.os, ENOTDIR);
        CHECK_EQUAL(rmdir(theirs), 0);
        place_close();
    }
}

static char path_of_socket[80];

static void put_a_link_to_the_victim(void) {
    CHECK_EQUAL(unlink(path_of_socket), 0);
    CHECK_EQUAL(symlink(victim, path_of_socket), 0);
}

/* The mask has made the mode stricter than asked for, so it is to be set. */
static void the_mode_of_another_file_is_not_set(void) {
    np_error error = {0};
    struct stat st;
    place_open();
    snprintf(path_of_socket, sizeof path_of_socket, "%s/demo", theirs);
    mode_t mask = umask(077);
    after_bind = put_a_link_to_the_victim;
    CHECK_EQUAL(start(path_of_socket, &error), NP_E_EXISTS);
    umask(mask);
    CHECK(after_bind == NULL);
    CHECK_EQUAL(stat(victim, &st), 0);
    CHECK_EQUAL(st.st_mode & 0777, 0600);
    CHECK_EQUAL(unlink(path_of_socket), 0);     /* it is not the engine's to remove */
    place_close();
}

const test swaps_tests[] = {
    {"a link that comes after the look is not followed",
     a_link_that_comes_after_the_look_is_not_followed, 0},
    {"a directory that comes after the look is looked at",
     a_directory_that_comes_after_the_look_is_looked_at, 0},
    {"a directory that comes before the bind has no server",
     a_directory_that_comes_before_the_bind_has_no_server, 0},
    {"a directory with slashes behind it is not followed",
     a_directory_with_slashes_behind_it_is_not_followed, 0},
    {"the mode of another file is not set", the_mode_of_another_file_is_not_set, 0},
    {0},
};
