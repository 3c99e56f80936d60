/* Durations in 8 steps per power of two: percentiles to within 9 percent, in one kilobyte or two. */
#ifndef LW_HISTOGRAM_H
#define LW_HISTOGRAM_H

#include <stdint.h>

enum { LW_HISTOGRAM_STEPS = 8, LW_HISTOGRAM_BUCKETS = 44 * LW_HISTOGRAM_STEPS };

typedef struct lw_histogram {
    uint64_t counts[LW_HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t highest;
} lw_histogram;

static inline unsigned lw_histogram_bucket(uint64_t value)
{
    if (value < LW_HISTOGRAM_STEPS)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket = (power - 2) * LW_HISTOGRAM_STEPS + (unsigned)(value >> (power - 3) & 7);
    return bucket < LW_HISTOGRAM_BUCKETS ? bucket : LW_HISTOGRAM_BUCKETS - 1;
}

static inline void lw_histogram_add(lw_histogram *histogram, uint64_t value)
{
    histogram->counts[lw_histogram_bucket(value)]++;
    histogram->total++;
    if (value > histogram->highest)
        histogram->highest = value;
}

/* The upper end of the step in which the given share (0..1000 per mille) of the values lies; 0 where there are none. */
static inline uint64_t lw_histogram_permille(const lw_histogram *histogram, uint64_t permille)
{
    uint64_t wanted = (histogram->total * permille + 999) / 1000;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < LW_HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen < wanted || wanted == 0)
            continue;
        if (bucket < LW_HISTOGRAM_STEPS)
            return bucket;
        unsigned power = bucket / LW_HISTOGRAM_STEPS + 2;
        uint64_t end = ((uint64_t)(8 + bucket % LW_HISTOGRAM_STEPS + 1) << (power - 3)) - 1;
        return end < histogram->highest ? end : histogram->highest;
    }
    return histogram->highest;
}

#endif
