// Counts allocations, in programs that link this: benchmarks and tests.
#pragma once

#include <stdint.h>

/// How often this thread has asked for memory so far: malloc, calloc, realloc, and the aligned ones.
uint64_t allocations_of_this_thread(void);
