#include "fake.h"

np_code np_code_from_os(int os) { return os ? NP_E_SYSTEM : NP_OK; }
