#include "model.h"

#include <stdio.h>
#include <string.h>

static uint64_t stir(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static uint64_t stir_bytes(uint64_t hash, const uint8_t *bytes, uint64_t size)
{
    uint64_t word;
    for (; size >= 8; bytes += 8, size -= 8) {
        memcpy(&word, bytes, 8);
        hash = stir(hash, word);
    }
    for (; size > 0; bytes++, size--)
        hash = stir(hash, *bytes);
    return hash;
}

uint64_t model_hash_entry(uint64_t index, uint64_t term, uint8_t kind, const void *payload, uint64_t size)
{
    uint64_t hash = stir(stir(stir(stir(1, index), term), kind), size);
    return stir_bytes(hash, payload, size);
}

uint64_t model_hash_hard_state(const lw_hard_state *state)
{
    uint64_t hash = stir(stir(stir(2, state->term), state->commit_index), state->has_vote);
    hash = stir_bytes(stir(hash, state->vote_size), state->vote, state->vote_size);
    return stir_bytes(stir(hash, state->extra_size), state->extra, state->extra_size) | 1;
}

void model_clear(model *m)
{
    memset(&m->now, 0, sizeof m->now);
    m->now.first = m->now.next = 1;
    m->writes = m->accepted = m->acknowledged = 0;
    m->prints[0] = m->now;
}

static bool blank(const model *m)
{
    return m->now.first == m->now.next && !m->now.has_boundary;
}

uint64_t model_term(const model *m, uint64_t index)
{
    if (index >= m->now.first && index < m->now.next)
        return m->entries[index - m->now.first].term;
    return m->now.has_boundary && index == m->now.boundary_index ? m->now.boundary_term : 0;
}

static void settle_empty(model *m)
{
    if (m->now.first == m->now.next)
        m->now.first = m->now.next = m->now.has_boundary ? m->now.boundary_index + 1 : 1;
}

static void cut(model *m, uint64_t from)
{
    if (from < m->now.first)
        from = m->now.first;
    for (; m->now.next > from; m->now.next--)
        m->now.entries -= m->entries[m->now.next - 1 - m->now.first].hash;
    settle_empty(m);
}

static void append(model *m, const lw_entry *entry)
{
    if (blank(m))
        m->now.first = m->now.next = entry->index;
    model_entry *made = &m->entries[entry->index - m->now.first];
    made->term = entry->term;
    made->hash = model_hash_entry(entry->index, entry->term, entry->kind, entry->payload, entry->size);
    m->now.entries += made->hash;
    m->now.next++;
}

static int persist(model *m, const lw_batch *batch, uint64_t *changed)
{
    const lw_entry *entry = batch->entries;
    const lw_entry *end = entry + batch->count;
    if (batch->count == 0)
        return LW_OK;
    if (!blank(m)) {
        if (entry->index > m->now.next || (!m->now.has_boundary && entry->index < m->now.first))
            return LW_INVALID_ENTRY;
        while (entry < end && m->now.has_boundary && entry->index <= m->now.boundary_index)
            entry++;
        for (; entry < end && entry->index < m->now.next; entry++) {
            if (model_term(m, entry->index) != entry->term)
                break;
            if (m->entries[entry->index - m->now.first].hash !=
                model_hash_entry(entry->index, entry->term, entry->kind, entry->payload, entry->size))
                return LW_CONFLICT;
        }
    }
    if (entry == end)
        return LW_OK;
    if (entry->term < model_term(m, entry->index - 1))
        return LW_INVALID_ENTRY;
    *changed = entry->index;
    cut(m, entry->index);
    for (; entry < end; entry++)
        append(m, entry);
    return LW_OK;
}

static int replace(model *m, const lw_batch *batch, uint64_t *changed)
{
    uint64_t from = batch->at.index;
    if (m->now.has_boundary && from <= m->now.boundary_index)
        return LW_PURGED;
    if (batch->count > 0 && !blank(m) && from > m->now.next)
        return LW_INVALID_ENTRY;
    if (batch->count > 0 && from > m->now.first && batch->entries[0].term < model_term(m, from - 1))
        return LW_INVALID_ENTRY;
    if (batch->count > 0 && from == m->now.first && m->now.has_boundary && batch->entries[0].term < m->now.boundary_term)
        return LW_INVALID_ENTRY;
    *changed = from;
    cut(m, from);
    for (size_t i = 0; i < batch->count; i++)
        append(m, &batch->entries[i]);
    return LW_OK;
}

static int truncate(model *m, uint64_t from, uint64_t *changed)
{
    if (m->now.has_boundary && from <= m->now.boundary_index)
        return LW_PURGED;
    if (from < m->now.next)
        *changed = from;
    cut(m, from);
    return LW_OK;
}

/* Just before the first entry, where no boundary is, the term is only known not to be above that entry's. */
static bool whole_log_goes(const model *m, lw_log_id cutoff)
{
    if (cutoff.index >= m->now.next)
        return true;
    if (cutoff.index < m->now.first)
        return cutoff.term > model_term(m, m->now.first);
    return model_term(m, cutoff.index) != cutoff.term;
}

static void purge(model *m, lw_log_id cutoff, uint64_t *changed)
{
    bool holds = m->now.first < m->now.next;
    if (cutoff.index == 0 || (m->now.has_boundary && cutoff.index <= m->now.boundary_index) ||
        (holds && cutoff.index + 1 < m->now.first))
        return;
    bool all = whole_log_goes(m, cutoff);
    if (all) {
        *changed = 0;
        cut(m, 0);
    }
    uint64_t gone = 0;
    while (m->now.first < m->now.next && m->now.first <= cutoff.index) {
        m->now.entries -= m->entries[gone++].hash;
        m->now.first++;
    }
    memmove(m->entries, m->entries + gone, (size_t)(m->now.next - m->now.first) * sizeof *m->entries);
    m->now.has_boundary = 1;
    m->now.boundary_index = cutoff.index;
    m->now.boundary_term = cutoff.term;
    settle_empty(m);
}

int model_write(model *m, const lw_batch *batch)
{
    uint64_t changed = UINT64_MAX;
    int status = LW_OK;
    if (batch->count > 0 && batch->entries[0].index == 0)
        return LW_INVALID_ENTRY;
    switch (batch->operation) {
    case LW_PERSIST:
        status = persist(m, batch, &changed);
        break;
    case LW_TRUNCATE:
        status = truncate(m, batch->at.index, &changed);
        break;
    case LW_REPLACE:
        status = replace(m, batch, &changed);
        break;
    case LW_PURGE:
        purge(m, batch->at, &changed);
        break;
    case LW_RESET:
        changed = 0;
        cut(m, 0);
        m->now.has_boundary = m->now.boundary_index = m->now.boundary_term = 0;
        settle_empty(m);
        break;
    }
    if (status != LW_OK)
        return status;
    if (batch->operation == LW_PERSIST && batch->hard_state != NULL)
        m->now.hard_state = model_hash_hard_state(batch->hard_state);
    m->writes++;
    m->prints[m->writes] = m->now;
    m->changed_from[m->writes] = changed;
    return LW_OK;
}

void model_take_back(model *m, const model_print *before, const model_entry *entries)
{
    m->writes--;
    m->now = *before;
    memcpy(m->entries, entries, (size_t)(before->next - before->first) * sizeof *entries);
}

void model_rebase(model *m, const model_print *found, const model_entry *entries)
{
    m->now = m->prints[0] = *found;
    memcpy(m->entries, entries, (size_t)(found->next - found->first) * sizeof *entries);
    m->writes = m->accepted = m->acknowledged = 0;
}

void model_durable_index(model *m, uint64_t index)
{
    if (index < m->now.first || index >= m->now.next)
        return;
    /* The present entry at `index`, and all before it, stand since the last write that touched them. */
    for (size_t i = m->writes; i > m->acknowledged; i--)
        if (m->changed_from[i] <= index) {
            m->acknowledged = i;
            return;
        }
}

size_t model_find(const model *m, const model_print *found, size_t from, size_t to)
{
    for (size_t i = to + 1; i > from; i--)
        if (memcmp(&m->prints[i - 1], found, sizeof *found) == 0)
            return i - 1;
    return SIZE_MAX;
}

void model_print_out(const char *title, const model_print *p)
{
    (void)printf("  %-14s [%llu, %llu) boundary %s%llu/%llu entries %016llx hard state %016llx\n", title,
                 (unsigned long long)p->first, (unsigned long long)p->next, p->has_boundary ? "" : "none ",
                 (unsigned long long)p->boundary_index, (unsigned long long)p->boundary_term,
                 (unsigned long long)p->entries, (unsigned long long)p->hard_state);
}
