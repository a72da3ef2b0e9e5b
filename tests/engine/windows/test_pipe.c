/* What only named pipes have: instances, modes, security and their own clients. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
#include <sddl.h>

#include "dial.h"
#include "listen.h"
#include "security.h"
#include "server.h"
#include "system.h"

static void path_of(const server *s, wchar_t out[512]) {
    REQUIRE(MultiByteToWideChar(CP_UTF8, 0, server_address(s), -1, out, 512));
}

/* ---- names ------------------------------------------------------------- */

static np_code address_code(const char *name, char *out, np_error *error) {
    *error = (np_error){0};
    return np_address(name, out, NP_ADDRESS_MAX, error);
}

static void names_are_leaves_or_pipe_paths(void) {
    char out[NP_ADDRESS_MAX], name[300];
    np_error error;
    CHECK_EQUAL(address_code("demo", out, &error), NP_OK);
    CHECK(strcmp(out, "\\\\.\\pipe\\demo") == 0);
    CHECK_EQUAL(address_code("\\\\host\\pipe\\demo", out, &error), NP_OK);
    CHECK(strcmp(out, "\\\\host\\pipe\\demo") == 0);
    CHECK_EQUAL(address_code("a\\b", out, &error), NP_E_NAME_CHAR);
    CHECK_EQUAL(error.value, '\\');
    CHECK_EQUAL(address_code("a/b", out, &error), NP_E_NAME_CHAR);
    CHECK_EQUAL(error.value, '/');
    CHECK_EQUAL(address_code("\\\\.\\pipe\\", out, &error), NP_E_NAME_EMPTY);
    CHECK_EQUAL(address_code("\\\\.\\pipe\\..\\x", out, &error), NP_E_NAME_CHAR);
    CHECK_EQUAL(address_code("\\\\.\\mailslot\\x", out, &error), NP_E_NAME_CHAR);
    static const char *const nothing[] = {".", "..", " ", ". .", "\\\\.\\pipe\\.."};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++)
        CHECK_EQUAL(address_code(nothing[i], out, &error), NP_E_NAME_CHAR);
    CHECK_EQUAL(address_code("..demo. .", out, &error), NP_OK);
    memset(name, 'x', sizeof name);
    name[247] = '\0';
    CHECK_EQUAL(address_code(name, out, &error), NP_OK);
    CHECK_EQUAL(strlen(out), 256);
    name[247] = 'x';
    name[248] = '\0';
    CHECK_EQUAL(address_code(name, out, &error), NP_E_NAME_LONG);
    CHECK_EQUAL(error.value, 257);
    CHECK_EQUAL(error.limit, 256);
}

/* ---- what is asked of the system --------------------------------------- */

static void every_instance_refuses_remote_clients(void) {
    for (unsigned i = 0; i < 4; i++) {
        bool byte_mode = i & 1, first = i & 2;
        np_pipe_flags flags = np_listener_flags(byte_mode, first);
        CHECK(flags.mode & PIPE_REJECT_REMOTE_CLIENTS);
        CHECK_EQUAL((flags.open & FILE_FLAG_FIRST_PIPE_INSTANCE) != 0, first);
        CHECK((flags.open & PIPE_ACCESS_DUPLEX) == PIPE_ACCESS_DUPLEX);
        CHECK(flags.open & FILE_FLAG_OVERLAPPED);
        CHECK_EQUAL((flags.mode & PIPE_TYPE_MESSAGE) != 0, !byte_mode);
        CHECK_EQUAL((flags.mode & PIPE_READMODE_MESSAGE) != 0, !byte_mode);
    }
}

/* A pipe's owner is this user, whatever the token says of what it makes. */
static void an_owner_is_named(const wchar_t *sddl) {
    void *descriptor = NULL;
    PSID owner = NULL;
    BOOL defaulted = TRUE;
    union {
        TOKEN_USER user;
        BYTE room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } me;
    HANDLE token = NULL;
    DWORD size;
    REQUIRE(OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token));
    REQUIRE(GetTokenInformation(token, TokenUser, &me, sizeof me, &size));
    CloseHandle(token);
    REQUIRE(ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, SDDL_REVISION_1, &descriptor,
                                                                 NULL));
    CHECK(GetSecurityDescriptorOwner(descriptor, &owner, &defaulted));
    CHECK(owner && EqualSid(owner, me.user.User.Sid));
    CHECK(!defaulted);
    LocalFree(descriptor);
}

static void access_becomes_a_protected_list(void) {
    wchar_t user[NP_SDDL_MAX], everyone[NP_SDDL_MAX], own[NP_SDDL_MAX];
    np_config config;
    np_error error;
    np_config_init(&config);
    REQUIRE_EQUAL(np_security_sddl(&config, user, NP_SDDL_MAX, &error), NP_OK);
    an_owner_is_named(user);
    CHECK(wcsstr(user, L";;;SY)") != NULL);
    CHECK(wcsstr(user, L";;;S-1-") != NULL);
    CHECK(wcsstr(user, L";;;WD)") == NULL);
    /* The owner, then nothing but two entries: SYSTEM, and the user of this process's token. */
    static const wchar_t begin[] = L"D:P(A;;FA;;;SY)(A;;FA;;;S-1-";
    const wchar_t *list = wcsstr(user, L"D:");
    REQUIRE(list != NULL);
    CHECK(wcsncmp(list, begin, wcslen(begin)) == 0);
    const wchar_t *rest = list + wcslen(begin);
    size_t sid = wcsspn(rest, L"0123456789-");
    CHECK(sid > 0);
    CHECK(wcscmp(rest + sid, L")") == 0);
    config.access = NP_ACCESS_EVERYONE;
    REQUIRE_EQUAL(np_security_sddl(&config, everyone, NP_SDDL_MAX, &error), NP_OK);
    CHECK(wcsstr(everyone, L";;;WD)") != NULL);
    CHECK(wcsncmp(everyone, user, wcslen(user)) == 0);
    CHECK(wcscmp(everyone + wcslen(user), L"(A;;0x0012019b;;;WD)") == 0);
    config.access = NP_ACCESS_SDDL;
    config.access_sddl = "D:(A;;GA;;;BA)";
    REQUIRE_EQUAL(np_security_sddl(&config, own, NP_SDDL_MAX, &error), NP_OK);
    CHECK(wcscmp(own, L"D:(A;;GA;;;BA)") == 0);
    void *descriptor = NULL;
    CHECK_EQUAL(np_security_descriptor(&config, &descriptor, &error), NP_OK);
    CHECK(IsValidSecurityDescriptor(descriptor));
    LocalFree(descriptor);
    config.access_sddl = "nonsense";
    CHECK(np_security_descriptor(&config, &descriptor, &error) != NP_OK);
    config.access = NP_ACCESS_MODE;
    CHECK_EQUAL(np_security_descriptor(&config, &descriptor, &error), NP_E_INVALID);
}

static void pipes_are_of_the_mode_asked_for(void) {
    for (unsigned byte_mode = 0; byte_mode < 2; byte_mode++) {
        server *s = server_new();
        s->config.byte_mode = byte_mode;
        server_start(s);
        client *c = server_client_bytes(s);
        HANDLE pipe = (HANDLE)np_connection_handle(server_peer(s, 0)->connection);
        DWORD flags = 0;
        CHECK(GetNamedPipeInfo(pipe, &flags, NULL, NULL, NULL));
        CHECK_EQUAL((flags & PIPE_TYPE_MESSAGE) != 0, !byte_mode);
        CHECK(flags & PIPE_SERVER_END);
        client_close(c);
        server_end(s);
    }
}

/* ---- instances --------------------------------------------------------- */

static void an_instance_always_waits(void) {
    enum { CLIENTS = 30 };
    server *s = server_new();
    s->config.listeners = 2;
    s->on_event = server_echo;
    server_start(s);
    wchar_t path[512];
    path_of(s, path);
    client *clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        CHECK(WaitNamedPipeW(path, TIMEOUT_MS));
        clients[i] = server_client(s);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_exchange(clients[i], 100, i);
        client_close(clients[i]);
    }
    server_end(s);
    CHECK(!WaitNamedPipeW(path, 1));
    CHECK_EQUAL(GetLastError(), ERROR_FILE_NOT_FOUND);
}

static void a_full_pool_is_busy(void) {
    server *s = server_new();
    s->config.max_instances = 2;
    s->on_event = server_echo;
    server_start(s);
    wchar_t path[512];
    path_of(s, path);
    client *a = server_client(s), *b = server_client(s);
    client_exchange(a, 100, 1);
    client_exchange(b, 100, 2);
    HANDLE third = CreateFileW(path, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
    CHECK(third == INVALID_HANDLE_VALUE);
    CHECK_EQUAL(GetLastError(), ERROR_PIPE_BUSY);
    CHECK(!WaitNamedPipeW(path, 20));
    client_close(a);
    CHECK(WaitNamedPipeW(path, TIMEOUT_MS));
    client_close(b);
    server_end(s);
}

static void close_soon(void *handle) {
    Sleep(100);
    CloseHandle((HANDLE)handle);
}

/* Windows keeps the name while the client has its end; Wine does not. */
static void a_name_is_free_when_the_clients_of_the_server_before_have_left(void) {
    server *before = server_new(), *after = server_new();
    np_thread thread;
    server_start(before);
    wchar_t path[512];
    path_of(before, path);
    HANDLE last = CreateFileW(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    REQUIRE(last != INVALID_HANDLE_VALUE);
    server_peer(before, 0);
    strcpy(after->name, before->name);
    server_end(before);
    REQUIRE_EQUAL(np_thread_start(&thread, close_soon, last), 0);
    server_start(after);
    np_thread_join(thread);
    client_close(server_client(after));
    server_end(after);
}

/* ---- clients that know pipes only -------------------------------------- */

static void a_call_is_a_connection_for_one_message(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    wchar_t path[512];
    path_of(s, path);
    for (unsigned i = 0; i < 10; i++) {
        char answer[32] = "";
        DWORD size = 0;
        CHECK(CallNamedPipeW(path, "question", 8, answer, sizeof answer, &size, TIMEOUT_MS));
        CHECK_EQUAL(size, 8);
        CHECK(memcmp(answer, "question", 8) == 0);
        peer_end(server_peer(s, i));
    }
    server_end(s);
}

static void a_transaction_is_a_message_and_its_answer(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    wchar_t path[512];
    path_of(s, path);
    HANDLE pipe = CreateFileW(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    REQUIRE(pipe != INVALID_HANDLE_VALUE);
    DWORD mode = PIPE_READMODE_MESSAGE;
    CHECK(SetNamedPipeHandleState(pipe, &mode, NULL, NULL));
    for (unsigned i = 0; i < 10; i++) {
        char answer[32] = "";
        DWORD size = 0;
        CHECK(TransactNamedPipe(pipe, "question", 8, answer, sizeof answer, &size, NULL));
        CHECK_EQUAL(size, 8);
    }
    CloseHandle(pipe);
    server_end(s);
}

static void the_peer_has_a_pid_and_a_sid(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    np_peer who;
    CHECK_EQUAL(np_connection_peer(server_peer(s, 0)->connection, &who), NP_OK);
    CHECK_EQUAL(who.pid, GetCurrentProcessId());
    CHECK_EQUAL(who.uid, -1);
    CHECK(strncmp(who.sid, "S-1-", 4) == 0);
    client_close(c);
    server_end(s);
}

/* ---- the engine as a client -------------------------------------------- */

static void a_client_lets_no_server_act_for_it(void) {
    CHECK(np_dial_flags() & SECURITY_SQOS_PRESENT);
    CHECK(
        (np_dial_flags() & (SECURITY_IMPERSONATION | SECURITY_DELEGATION | SECURITY_IDENTIFICATION))
        == SECURITY_IDENTIFICATION);
    CHECK(np_dial_flags() & FILE_FLAG_OVERLAPPED);
}

static void a_client_reads_messages_or_bytes(void) {
    for (unsigned byte_mode = 0; byte_mode < 2; byte_mode++) {
        server *s = server_new(), *m = server_new();
        s->config.byte_mode = m->config.byte_mode = byte_mode;
        m->dials = true;
        server_start(s);
        server_start(m);
        peer *p = server_dial(m, s->name, 5000);
        UNTIL_EQUAL(np_load32(&p->connected), 1);
        DWORD state = 0;
        CHECK(GetNamedPipeHandleStateW((HANDLE)np_connection_handle(p->connection), &state, NULL,
                                       NULL, NULL, NULL, 0));
        CHECK_EQUAL((state & PIPE_READMODE_MESSAGE) != 0, !byte_mode);
        np_peer who;
        CHECK_EQUAL(np_connection_peer(p->connection, &who), NP_OK);
        CHECK_EQUAL(who.pid, GetCurrentProcessId());
        server_end(m);
        server_end(s);
    }
}

static void a_server_of_this_user_is_taken(void) {
    server *s = server_new(), *m = server_new();
    m->dials = m->config.owner_only = true;
    server_start(s);
    server_start(m);
    peer *p = server_dial(m, s->name, 5000);
    UNTIL_EQUAL(np_load32(&p->connected), 1);
    server_end(m);
    server_end(s);
}

static const test pipe_tests[] = {
    {"a client lets no server act for it", a_client_lets_no_server_act_for_it, 0},
    {"a client reads messages or bytes", a_client_reads_messages_or_bytes, MODE_FREE},
    {"a server of this user is taken", a_server_of_this_user_is_taken, MODE_FREE},
    {"names are leaves or pipe paths", names_are_leaves_or_pipe_paths, 0},
    {"every instance refuses remote clients", every_instance_refuses_remote_clients, 0},
    {"access becomes a protected list", access_becomes_a_protected_list, 0},
    {"pipes are of the mode asked for", pipes_are_of_the_mode_asked_for, MODE_FREE},
    {"an instance always waits", an_instance_always_waits, EVERY_MODE},
    {"a full pool is busy", a_full_pool_is_busy, EVERY_MODE},
    {"a name is free when the clients of the server before have left",
     a_name_is_free_when_the_clients_of_the_server_before_have_left, MODE_FREE},
    {"a call is a connection for one message", a_call_is_a_connection_for_one_message, EVERY_MODE},
    {"a transaction is a message and its answer", a_transaction_is_a_message_and_its_answer,
     EVERY_MODE},
    {"the peer has a pid and a sid", the_peer_has_a_pid_and_a_sid, MODE_FREE},
    {0},
};

const test *const system_tables[] = {pipe_tests, NULL};
