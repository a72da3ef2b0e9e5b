/* Who may connect, decided by the system from a descriptor on every instance;
 * and who did. */
#include "security.h"

#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "wire.h"

/* Protected (P): nothing is inherited.  Full access for SYSTEM and this user,
 * who make the instances.  The owner is named (O), as that of what an elevated
 * process makes would be the administrators: a client that insists on a server of
 * its user, and is not elevated, must find the user. */
#define OWNERS L"O:%lsD:P(A;;FA;;;SY)(A;;FA;;;%ls)"
/* Everyone reads and writes: FILE_GENERIC_READ | FILE_GENERIC_WRITE without
 * FILE_CREATE_PIPE_INSTANCE (4), or another user could serve this name.  A
 * client that asks for GENERIC_WRITE gets in: that bit is not asked of clients. */
#define EVERYONE L"(A;;0x0012019b;;;WD)"

typedef struct user_sid {
    union {
        TOKEN_USER user;
        BYTE room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } u;
} user_sid;

static bool read_user(HANDLE process, user_sid *out) {
    HANDLE token;
    if (!OpenProcessToken(process, TOKEN_QUERY, &token))
        return false;
    DWORD size;
    BOOL ok = GetTokenInformation(token, TokenUser, &out->u, sizeof out->u, &size);
    DWORD os = GetLastError();
    CloseHandle(token);
    SetLastError(os);
    return ok;
}

static np_code own_sddl(bool everyone, wchar_t *out, size_t cap, np_error *error) {
    user_sid me;
    wchar_t *sid;
    if (!read_user(GetCurrentProcess(), &me) || !ConvertSidToStringSidW(me.u.user.User.Sid, &sid))
        return np_error_from_os(error, GetLastError());
    int n = swprintf(out, cap, everyone ? OWNERS EVERYONE : OWNERS, sid, sid);
    LocalFree(sid);
    return n > 0 && (size_t)n < cap ? NP_OK : np_error_set(error, NP_E_INVALID, 0, cap, 0);
}

np_code np_security_sddl(const np_config *config, wchar_t *out, size_t cap, np_error *error) {
    switch (config->access) {
    case NP_ACCESS_USER:
    case NP_ACCESS_EVERYONE: return own_sddl(config->access == NP_ACCESS_EVERYONE, out, cap, error);
    case NP_ACCESS_SDDL:
        if (!config->access_sddl || !*config->access_sddl)
            return np_error_set(error, NP_E_INVALID, 0, 0, 0);
        if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, config->access_sddl, -1, out,
                                (int)cap))
            return NP_OK;
        return np_error_set(error, NP_E_INVALID, GetLastError(), 0, cap - 1);
    default: return np_error_set(error, NP_E_INVALID, 0, config->access_mode, 0);
    }
}

np_code np_security_descriptor(const np_config *config, void **out, np_error *error) {
    wchar_t sddl[NP_SDDL_MAX];
    np_code code = np_security_sddl(config, sddl, NP_SDDL_MAX, error);
    if (code != NP_OK)
        return code;
    if (ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, SDDL_REVISION_1, out, NULL))
        return NP_OK;
    return np_error_set(error, NP_E_INVALID, GetLastError(), 0, 0);
}

/* What an elevated process makes without naming an owner is the administrators',
 * which is what its own token says too. */
static bool is_default_owner(PSID sid) {
    union {
        TOKEN_OWNER owner;
        BYTE room[sizeof(TOKEN_OWNER) + SECURITY_MAX_SID_SIZE];
    } mine;
    HANDLE token;
    DWORD size;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
        return false;
    bool is = GetTokenInformation(token, TokenOwner, &mine, sizeof mine, &size)
              && EqualSid(mine.owner.Owner, sid);
    CloseHandle(token);
    return is;
}

bool np_security_is_owner(HANDLE pipe) {
    user_sid me;
    PSID owner = NULL;
    PSECURITY_DESCRIPTOR descriptor = NULL;
    if (GetSecurityInfo(pipe, SE_KERNEL_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL, NULL,
                        NULL, &descriptor)
        != ERROR_SUCCESS)
        return false;
    bool is = owner && read_user(GetCurrentProcess(), &me)
              && (EqualSid(me.u.user.User.Sid, owner) || is_default_owner(owner));
    LocalFree(descriptor);
    return is;
}

/* The descriptor kept the others out. */
np_code np_link_check_peer(const np_link *link, const np_config *config, const char *address,
                           np_error *error) {
    (void)link;
    (void)config;
    (void)address;
    (void)error;
    return NP_OK;
}

static void to_utf8(const wchar_t *text, char *out, size_t cap) {
    if (!WideCharToMultiByte(CP_UTF8, 0, text, -1, out, (int)cap, NULL, NULL))
        out[0] = 0;
}

static void describe(PSID sid, np_peer *out) {
    wchar_t *text;
    if (ConvertSidToStringSidW(sid, &text)) {
        to_utf8(text, out->sid, sizeof out->sid);
        LocalFree(text);
    }
    wchar_t name[256], domain[256];
    DWORD name_size = 256, domain_size = 256;
    SID_NAME_USE use;
    if (LookupAccountSidW(NULL, sid, name, &name_size, domain, &domain_size, &use))
        to_utf8(name, out->user, sizeof out->user);
}

void np_link_peer(const np_link *link, np_peer *out) {
    *out = (np_peer){.pid = link->pid, .uid = -1, .gid = -1};
}

void np_wire_peer(const np_wire *wire, np_peer *out) {
    DWORD flags;
    ULONG pid;
    *out = (np_peer){.pid = -1, .uid = -1, .gid = -1};
    if (!GetNamedPipeInfo(wire->handle, &flags, NULL, NULL, NULL))
        return;
    bool server = flags & PIPE_SERVER_END;
    if ((server ? GetNamedPipeClientProcessId : GetNamedPipeServerProcessId)(wire->handle, &pid))
        out->pid = pid;
}

/* What can't be found out (the process has ended, or is not ours to look at)
 * stays empty. */
void np_peer_look_up(np_peer *peer) {
    if (peer->pid < 0)
        return;
    HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)peer->pid);
    if (!process)
        return;
    user_sid user;
    if (read_user(process, &user))
        describe(user.u.user.User.Sid, peer);
    CloseHandle(process);
}
