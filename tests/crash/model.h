/*
 * The oracle: what a log is, by the contract alone. It shares no line with the core.
 *
 * It keeps the state now and a fingerprint of the state after each write since the last open, so that after a crash one can
 * say which of the states that may be found was found: the acknowledged one, or that and a prefix of what came after.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include "logwal.h"

#include <stdbool.h>

enum { MODEL_MAX_ENTRIES = 8192, MODEL_MAX_WRITES = 4096, MODEL_MAX_PAYLOAD = 96 * 1024 };

typedef struct model_entry {
    uint64_t term;
    uint64_t hash; /* of index, term, kind and payload */
} model_entry;

typedef struct model_print {
    uint64_t first, next, boundary_index, boundary_term, has_boundary;
    uint64_t entries; /* hash of them all */
    uint64_t hard_state; /* hash; 0: none */
} model_print;

typedef struct model {
    model_print now;
    model_entry entries[MODEL_MAX_ENTRIES]; /* from now.first */
    /* prints[i]: after the first i writes since the base; prints[0] is the base. */
    model_print prints[MODEL_MAX_WRITES + 1];
    uint64_t changed_from[MODEL_MAX_WRITES + 1]; /* lowest index whose entry write i (from 1) added or dropped at the end */
    size_t writes;
    size_t accepted;     /* all up to here are known to be accepted */
    size_t acknowledged; /* all up to here are known to be durable */
} model;

uint64_t model_hash_entry(uint64_t index, uint64_t term, uint8_t kind, const void *payload, uint64_t size);
uint64_t model_hash_hard_state(const lw_hard_state *);

void model_clear(model *);
/* What the contract says of this write. LW_OK: it is done, here too. */
int model_write(model *, const lw_batch *);
/* The last write was not accepted after all. Only right after it. */
void model_take_back(model *, const model_print *before, const model_entry *entries);
uint64_t model_term(const model *, uint64_t index);
/* The print that was read back becomes the base, with `entries`. */
void model_rebase(model *, const model_print *, const model_entry *entries);
/* durable_index() said so. */
void model_durable_index(model *, uint64_t index);
/* Which of the states that may be found this is, counted in writes; SIZE_MAX: none. */
size_t model_find(const model *, const model_print *, size_t from, size_t to);
void model_print_out(const char *title, const model_print *);

#endif
