#define _GNU_SOURCE
#include <sched.h>

#include "CLinux.h"

int ipt_setns(int descriptor, int kind) { return setns(descriptor, kind); }
