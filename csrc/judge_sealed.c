#include "judge.h"

#include <errno.h>

#include "error.h"
#include "step.h"

/* The first index that is lost with segment `number`, as well as what is left can tell. Where neither its header nor its
 * footer is left, what it replaced of older segments is not known. */
static uint64_t first_lost(lw_judge *j, uint64_t number, uint64_t lowest)
{
    lw_error ignored;
    lw_error *reported = j->error;
    uint64_t first = j->found->state.bounds.first;
    j->error = &ignored;
    for (unsigned back = 0; back < 2 && number > back; back++) {
        lw_opened o;
        lw_page header;
        lw_page footer;
        lw_decoded decoded;
        if (!lw_judge_has(j, number - back) || lw_judge_open(j, number - back, false, &o) != LW_OK)
            continue;
        int status = lw_judge_page(j, &o, 0, LW_HEADER, &header, &decoded);
        if (back == 0 && status == LW_OK && decoded == LW_VALID && header.identity.number == number) {
            j->fs->close(j->fs, o.file);
            first = lw_max64(first, lw_min64(lw_judge_lowest(j, &header), lowest - 1));
            break;
        }
        status = lw_judge_page(j, &o, o.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &decoded);
        j->fs->close(j->fs, o.file);
        if (status != LW_OK || decoded != LW_VALID || footer.identity.number != number - back)
            continue;
        uint64_t index = back == 0 ? footer.index_first : footer.state.bounds.next;
        if (index > first && index < lowest)
            first = index;
        break;
    }
    j->error = reported;
    return first;
}

/* Opens the segment that j->header proves, and moves j->header to its own. */
static int read_sealed(lw_judge *j, uint64_t lowest, lw_segment **out)
{
    lw_opened o;
    lw_page footer;
    lw_decoded decoded;
    lw_page after = j->header;
    uint64_t number = after.predecessor;
    if (number == 0 || number != after.identity.number - 1 || !lw_judge_has(j, number)) {
        char name[LW_NAME_SIZE];
        lw_segment_name(after.identity.number - 1, LW_SEGMENT_SUFFIX, name);
        return lw_fail_corrupt(j->error, name, 0, first_lost(j, after.identity.number - 1, lowest), lowest - 1,
                               "the segment is missing");
    }
    int status = lw_judge_open(j, number, false, &o);
    if (status != LW_OK)
        return status;
    status = lw_judge_page(j, &o, 0, LW_HEADER, &j->header, &decoded);
    if (status == LW_OK && decoded != LW_VALID)
        status = lw_fail_corrupt(j->error, o.name, 0, first_lost(j, number, lowest), lowest - 1, "the header is damaged");
    if (status == LW_OK)
        status = lw_judge_identity(j, &o, &j->header);
    if (status == LW_OK && o.size < j->header.size)
        status = lw_fail_short(j, &o, j->header.size, first_lost(j, number, lowest), lowest - 1);
    if (status == LW_OK)
        status = lw_judge_page(j, &o, j->header.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &decoded);
    if (status == LW_OK && (decoded != LW_VALID || (LW_STEP(PROOF) && footer.check != after.predecessor_check) ||
                            !lw_same_identity(&footer.identity, &j->header.identity)))
        status = lw_fail_corrupt(j->error, o.name, j->header.size - LW_PAGE_SIZE, first_lost(j, number, lowest),
                                 lowest - 1, "the footer is damaged, or not the one that the next segment names");
    if (status != LW_OK) {
        j->fs->close(j->fs, o.file);
        return status;
    }
    status = lw_judge_reuse(j, &o, &j->header, &footer, out);
    if (status != LW_NOT_FOUND) {
        j->fs->close(j->fs, o.file);
        return status;
    }
    status = lw_judge_map(j, &o, &j->header, false, out);
    if (status != LW_OK)
        return status;
    lw_segment_close_file(*out);
    (*out)->sealed = true;
    (*out)->end = footer.end;
    (*out)->chain = footer.chain;
    (*out)->footer_check = footer.check;
    (*out)->index_first = footer.index_first;
    (*out)->index_count = footer.index_count;
    (*out)->index_check = footer.index_check;
    (*out)->lowest_override = footer.lowest_override;
    return LW_OK;
}

static int prepend_run(lw_judge *j, lw_segment *segment, uint64_t first, uint64_t next)
{
    if (lw_index_reserve(&j->found->index) != LW_OK)
        return lw_fail_errno(j->error, ENOMEM, NULL, "the index");
    lw_index_append(&j->found->index, segment, first, next); /* newest first for now */
    return LW_OK;
}

int lw_judge_sealed(lw_judge *j, lw_segment *segment)
{
    uint64_t first = j->found->state.bounds.first;
    uint64_t lowest = j->found->state.bounds.next; /* all from here on are mapped */
    uint64_t limit = lowest;                       /* what older segments hold from here on was overridden */
    for (;;) {
        uint64_t next = lw_min64(segment->index_first + segment->index_count, limit);
        if (segment->index_count > 0 && segment->index_first < next && next > first) {
            if (next != lowest)
                break;
            lowest = lw_max64(first, segment->index_first);
            int status = prepend_run(j, segment, lowest, next);
            if (status != LW_OK)
                return status;
            limit = lw_min64(limit, segment->index_first);
        }
        limit = lw_min64(limit, segment->lowest_override);
        if (lowest <= first)
            return LW_OK;
        int status = read_sealed(j, lowest, &segment);
        if (status != LW_OK)
            return status;
    }
    char name[LW_NAME_SIZE];
    lw_segment_name_of(segment, name);
    return lw_fail_corrupt(j->error, name, 0, lw_min64(segment->index_first + segment->index_count, limit), lowest - 1,
                           "entries that the log counts are in no segment");
}
