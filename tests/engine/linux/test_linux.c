#include "system.h"
const test system_tests[] = {
    {0},
};
