#include "judge.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "walk.h"

int lw_judge_open(lw_judge *j, uint64_t number, bool writable, lw_opened *o)
{
    o->number = number;
    lw_segment_name(number, LW_SEGMENT_SUFFIX, o->name);
    int failed = j->fs->open(j->fs, o->name, writable ? LW_OPEN_WRITE : 0, &o->file);
    if (failed)
        return lw_fail_errno(j->error, failed, o->name, "cannot open the file");
    failed = j->fs->size(j->fs, o->file, &o->size);
    if (!failed)
        return LW_OK;
    j->fs->close(j->fs, o->file);
    return lw_fail_errno(j->error, failed, o->name, "cannot tell the size of the file");
}

int lw_judge_page(lw_judge *j, const lw_opened *o, uint64_t offset, lw_page_type type, lw_page *page, lw_decoded *decoded)
{
    uint8_t bytes[LW_PAGE_SIZE];
    *decoded = LW_DAMAGED;
    if (o->size < LW_PAGE_SIZE || offset > o->size - LW_PAGE_SIZE)
        return LW_OK;
    int failed = j->fs->read(j->fs, o->file, offset, bytes, sizeof bytes);
    if (failed)
        return lw_fail_errno(j->error, failed, o->name, "cannot read the file");
    *decoded = lw_page_decode(page, type, bytes);
    if (*decoded == LW_NEWER_VERSION)
        return lw_fail_newer(j, o->name);
    return LW_OK;
}

bool lw_same_identity(const lw_identity *a, const lw_identity *b)
{
    return memcmp(a->log_id, b->log_id, LW_LOG_ID_SIZE) == 0 && a->number == b->number && a->nonce == b->nonce;
}

int lw_judge_identity(lw_judge *j, const lw_opened *o, const lw_page *page)
{
    if (memcmp(page->identity.log_id, j->found->log_id, LW_LOG_ID_SIZE) != 0)
        return lw_fail_corrupt(j->error, o->name, 0, 1, 0, "the file belongs to another log; move it out of this directory");
    if (page->identity.number != o->number)
        return lw_fail_corrupt(j->error, o->name, 0, 1, 0,
                               "the file is segment %llu under another's name; give it its own name back",
                               (unsigned long long)page->identity.number);
    return LW_OK;
}

int lw_fail_short(lw_judge *j, const lw_opened *o, uint64_t size, uint64_t first, uint64_t last)
{
    return lw_fail_corrupt(j->error, o->name, o->size, first, last, "the file is %llu bytes long and should be %llu",
                           (unsigned long long)o->size, (unsigned long long)size);
}

int lw_fail_newer(lw_judge *j, const char *name)
{
    return lw_fail_file(j->error, LW_UNSUPPORTED_FORMAT, name,
                        "the file was written by a newer version of the library; install a newer pylogwal");
}

int lw_fail_guarded(lw_judge *j, const char *name)
{
    return lw_fail_errno(j->error, EIO, name, "the mapped file could not be read");
}

int lw_judge_reuse(lw_judge *j, const lw_opened *o, const lw_page *header, const lw_page *footer, lw_segment **out)
{
    if (j->known == NULL)
        return LW_NOT_FOUND;
    size_t at = lw_segment_list_after(j->known, o->number - 1);
    if (at == j->known->count)
        return LW_NOT_FOUND;
    lw_segment *segment = lw_segment_list_items(j->known)[at];
    if (!segment->sealed || segment->header_check != header->check || segment->footer_check != footer->check ||
        !lw_same_identity(&segment->identity, &header->identity))
        return LW_NOT_FOUND;
    if (lw_segment_list_reserve(&j->found->segments) != LW_OK)
        return lw_fail_errno(j->error, ENOMEM, o->name, "open");
    lw_segment_pin(segment);
    lw_segment_list_append(&j->found->segments, segment);
    *out = segment;
    return LW_OK;
}

int lw_judge_map(lw_judge *j, lw_opened *o, const lw_page *header, bool writable, lw_segment **out)
{
    lw_recovered *found = j->found;
    if (lw_segment_list_reserve(&found->segments) != LW_OK) {
        j->fs->close(j->fs, o->file);
        return lw_fail_errno(j->error, ENOMEM, o->name, "open");
    }
    int status = lw_segment_map(j->fs, o->file, o->name, header->size, writable, out, j->error);
    if (status != LW_OK)
        return status;
    lw_segment_set_identity(*out, &header->identity);
    (*out)->header_check = header->check;
    lw_segment_list_append(&found->segments, *out); /* newest first for now */
    return LW_OK;
}

uint64_t lw_judge_lowest(lw_judge *j, const lw_page *header)
{
    lw_error ignored;
    lw_error *reported = j->error;
    uint64_t lowest = header->state.bounds.next;
    lw_segment *segment;
    lw_opened o;
    j->error = &ignored;
    int status = lw_judge_open(j, header->identity.number, false, &o);
    j->error = reported;
    if (status != LW_OK)
        return lowest;
    uint64_t size = lw_min64(o.size, header->size) / LW_PAGE_SIZE * LW_PAGE_SIZE;
    if (size < LW_FRAMES_OFFSET + 2 * LW_PAGE_SIZE) {
        j->fs->close(j->fs, o.file);
        return lowest;
    }
    if (lw_segment_map(j->fs, o.file, o.name, size, false, &segment, &ignored) != LW_OK)
        return lowest;
    lw_segment_set_identity(segment, &header->identity);
    lw_look_ahead look = {.segment = segment, .has_seed = true, .from = LW_FRAMES_OFFSET};
    if (lw_guarded(lw_look_ahead_run, &look) == 0)
        lowest = lw_min64(lowest, look.lowest_index);
    lw_segment_unpin(segment);
    return lw_max64(lowest, header->state.bounds.first);
}
