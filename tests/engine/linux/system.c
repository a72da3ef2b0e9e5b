#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static char directory[64];
static unsigned names;

bool system_begin(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;    /* both ends of many connections are here */
        setrlimit(RLIMIT_NOFILE, &files);
    }
    snprintf(directory, sizeof directory, "/tmp/npipes-test-XXXXXX");
    return mkdtemp(directory) && setenv("NPIPES_DIR", directory, 1) == 0;
}

/* Fails, and leaves the directory to be looked at, when a test left a file. */
void system_end(void) {
    if (rmdir(directory) != 0)
        printf("%s is not empty\n", directory);
}

void system_sleep(unsigned milliseconds) {
    struct timespec t = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    nanosleep(&t, NULL);
}

void system_name(char *out, size_t capacity) { snprintf(out, capacity, "test-%u", ++names); }

bool system_waitable(intptr_t waitable, unsigned milliseconds) {
    struct pollfd p = {.fd = (int)waitable, .events = POLLIN};
    return poll(&p, 1, (int)milliseconds) == 1;
}

const unsigned system_spare_handles = 0;

unsigned system_handles(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

bool system_is_no_memory(int os) { return os == ENOMEM; }

const char *system_shares_names(void) { return NULL; }
