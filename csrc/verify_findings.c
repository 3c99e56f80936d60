#include "verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"

int lw_verify_no_memory(lw_verify *v)
{
    return lw_fail_errno(v->error, ENOMEM, NULL, "verification");
}

static bool make_room(lw_damage **items, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return true;
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    lw_damage *grown = realloc(*items, more * sizeof *grown);
    if (grown == NULL)
        return false;
    *items = grown;
    *capacity = more;
    return true;
}

lw_damage *lw_verify_add(lw_verify *v, lw_finding_kind kind, uint64_t number, uint64_t offset, bool needed, const char *what)
{
    if (!make_room(&v->damage, v->damage_count, &v->damage_capacity))
        return NULL;
    lw_damage *damage = &v->damage[v->damage_count++];
    *damage = (lw_damage){.finding = {.kind = (int)kind, .needed = needed, .segment = number, .offset = offset}};
    lw_finding *finding = &damage->finding;
    if (number == 0)
        memcpy(finding->file, LW_LOCK_NAME, sizeof LW_LOCK_NAME);
    else
        lw_segment_name(number, LW_SEGMENT_SUFFIX, finding->file);
    (void)snprintf(finding->detail, sizeof finding->detail, "%s", what);
    return damage;
}

void lw_damage_range(lw_damage *damage, uint64_t first, uint64_t last)
{
    damage->finding.has_index = first <= last && first > 0;
    damage->finding.first_index = first;
    damage->finding.last_index = last;
}

/* True for a finding that was told when its segment was read before. */
static bool was_told(const lw_verify *v, const lw_finding *finding)
{
    for (size_t i = 0; v->may_repeat && i < v->all_told_count; i++) {
        const lw_finding *told = &v->all_told[i].finding;
        if (told->segment == finding->segment && told->offset == finding->offset && told->kind == finding->kind)
            return true;
    }
    return false;
}

int lw_verify_tell(lw_verify *v, lw_finding *finding)
{
    while (v->is_ready && v->told < v->damage_count) {
        lw_damage *damage = &v->damage[v->told++];
        if (was_told(v, &damage->finding))
            continue;
        if (!make_room(&v->all_told, v->all_told_count, &v->all_told_capacity))
            return lw_verify_no_memory(v);
        v->all_told[v->all_told_count++] = *damage;
        *finding = damage->finding;
        return LW_OK;
    }
    if (v->is_ready)
        v->damage_count = v->told = 0;
    v->is_ready = false;
    return LW_NOT_FOUND;
}
