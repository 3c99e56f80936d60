#ifndef CRASH_RANDOM_H
#define CRASH_RANDOM_H

#include <stdint.h>

void random_steps(uint64_t count);
void random_history(uint64_t seed);

#endif
