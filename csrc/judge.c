#include "judge.h"

#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "error.h"

/* ---- names ---- */

static int keep_number(uint64_t **numbers, size_t *count, uint64_t number)
{
    if ((*count & (*count - 1)) == 0) { /* a power of two: full */
        uint64_t *more = realloc(*numbers, (*count == 0 ? 1 : *count * 2) * sizeof *more);
        if (more == NULL)
            return ENOMEM;
        *numbers = more;
    }
    (*numbers)[(*count)++] = number;
    return 0;
}

static int visit_name(void *argument, const char *name)
{
    lw_judge *j = argument;
    uint64_t number;
    if (lw_segment_name_parse(name, LW_SEGMENT_SUFFIX, &number))
        return keep_number(&j->numbers, &j->number_count, number);
    if (lw_segment_name_parse(name, LW_SPARE_SUFFIX, &number))
        return keep_number(&j->found->spares, &j->found->spare_count, number);
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

bool lw_judge_has(const lw_judge *j, uint64_t number)
{
    return j->number_count > 0 && bsearch(&number, j->numbers, j->number_count, sizeof number, compare_numbers) != NULL;
}

static int list_names(lw_judge *j)
{
    int failed = j->fs->list(j->fs, visit_name, j);
    if (failed)
        return lw_fail_errno(j->error, failed, NULL, "cannot list the directory");
    if (j->number_count > 0) {
        qsort(j->numbers, j->number_count, sizeof *j->numbers, compare_numbers);
        j->found->names = lw_crc32c(0, j->numbers, j->number_count * sizeof *j->numbers);
    }
    return LW_OK;
}

static int read_lock_file(lw_judge *j)
{
    uint8_t bytes[LW_LOCK_SIZE];
    lw_file *file;
    uint64_t size = 0;
    j->found->lock_missing = true;
    int failed = j->fs->open(j->fs, LW_LOCK_NAME, 0, &file);
    if (failed == ENOENT)
        return LW_OK;
    if (failed)
        return lw_fail_errno(j->error, failed, LW_LOCK_NAME, "cannot open the file");
    failed = j->fs->size(j->fs, file, &size);
    if (!failed && size >= LW_LOCK_SIZE)
        failed = j->fs->read(j->fs, file, 0, bytes, sizeof bytes);
    j->fs->close(j->fs, file);
    if (failed)
        return lw_fail_errno(j->error, failed, LW_LOCK_NAME, "cannot read the file");
    static const uint8_t unwritten[LW_LOCK_SIZE];
    if (size < LW_LOCK_SIZE || memcmp(bytes, unwritten, sizeof bytes) == 0)
        return LW_OK; /* a power cut came before its sync */
    lw_decoded decoded = lw_lock_decode(j->found->log_id, bytes);
    if (decoded == LW_NEWER_VERSION)
        return lw_fail_newer(j, LW_LOCK_NAME);
    j->lock_damaged = decoded == LW_DAMAGED;
    j->found->lock_missing = j->lock_damaged;
    return LW_OK;
}

static int fail_lock_damaged(lw_judge *j)
{
    return lw_fail_corrupt(j->error, LW_LOCK_NAME, 0, 1, 0,
                           "the log id in LOCK is damaged; if the segments are intact, remove LOCK (with no writer "
                           "running), and the id is taken from them");
}

/* ---- the tail is the newest with a header ---- */

typedef struct zero_scan {
    const uint8_t *base;
    uint64_t size;
    bool all_zero;
} zero_scan;

static void zero_scan_run(void *argument)
{
    zero_scan *scan = argument;
    scan->all_zero = true;
    for (uint64_t i = 0; i < scan->size && scan->all_zero; i += 8) {
        uint64_t word;
        memcpy(&word, scan->base + i, sizeof word);
        scan->all_zero = word == 0;
    }
}

static int fail_no_header(lw_judge *j)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(j->numbers[j->number_count - 1], LW_SEGMENT_SUFFIX, name);
    return lw_fail_corrupt(j->error, name, 0, 1, UINT64_MAX, "no segment has a valid header: the whole log is lost");
}

/* No header is valid: a log whose making was cut short, or one that lost its headers. */
static int judge_headerless(lw_judge *j)
{
    lw_recovered *found = j->found;
    lw_position nowhere = {0, 0};
    found->is_new = true;
    lw_state_clear(&found->state);
    if (j->number_count == 0)
        return found->lock_missing ? LW_OK
                                   : lw_fail_corrupt(j->error, LW_LOCK_NAME, 0, 1, UINT64_MAX,
                                                     "LOCK has a log id, but there are no segments: they were removed");
    if (j->number_count > 1 || j->numbers[0] != 1)
        return fail_no_header(j);
    found->successor = 1;
    j->successor_may_have_begun = true;
    if (!found->lock_missing)
        return lw_judge_successor(j, 1, nowhere, 1);
    lw_opened o;
    int status = lw_judge_open(j, 1, false, &o);
    if (status != LW_OK)
        return status;
    if (o.size < LW_MIN_SEGMENT_SIZE) {
        j->fs->close(j->fs, o.file);
        return lw_fail_short(j, &o, LW_MIN_SEGMENT_SIZE, 1, UINT64_MAX);
    }
    lw_segment *segment;
    uint64_t size = o.size / LW_PAGE_SIZE * LW_PAGE_SIZE;
    status = lw_segment_map(j->fs, o.file, o.name, size, false, &segment, j->error);
    if (status != LW_OK)
        return status;
    zero_scan scan = {segment->base, segment->size, false};
    if (lw_guarded(zero_scan_run, &scan))
        status = lw_fail_guarded(j, o.name);
    else if (!scan.all_zero)
        status = fail_no_header(j);
    lw_segment_unpin(segment);
    return status;
}

/* Behind the tail stand files without a valid header, which are not just its successor. A segment gets its header when the one
 * before it is sealed, and has its name before that. So behind a tail that is not sealed, and behind a gap, stands no segment. */
static int fail_behind(lw_judge *j, const lw_opened *tail, size_t damaged)
{
    char name[LW_NAME_SIZE];
    lw_page footer;
    lw_decoded decoded;
    int status = lw_judge_page(j, tail, j->header.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &decoded);
    if (status != LW_OK)
        return status;
    uint64_t newest = j->numbers[j->number_count - 1];
    bool sealed = decoded == LW_VALID && lw_same_identity(&footer.identity, &j->header.identity);
    lw_segment_name(tail->number + 1, LW_SEGMENT_SUFFIX, name);
    if (sealed && newest - tail->number == damaged)
        return lw_fail_corrupt(j->error, name, 0, footer.state.bounds.next, UINT64_MAX,
                               "the header is damaged, and so is that of each segment behind it");
    if (sealed && !lw_judge_has(j, tail->number + 1))
        return lw_fail_corrupt(j->error, name, 0, footer.state.bounds.next, UINT64_MAX,
                               "the segment is missing, and none behind it has a valid header");
    lw_segment_name(newest, LW_SEGMENT_SUFFIX, name);
    return lw_fail_corrupt(j->error, name, 0, 1, 0,
                           "the file has the name of a segment, but no segment's header, and the log seems to end in %s; move "
                           "the file out of the directory and open the log again", tail->name);
}

/* Whether the newest file with a valid header, behind which stand `damaged` files without, may be the tail of this log. */
static int judge_header(lw_judge *j, const lw_opened *tail, size_t damaged)
{
    if (j->lock_damaged)
        return fail_lock_damaged(j);
    if (j->found->lock_missing)
        memcpy(j->found->log_id, j->header.identity.log_id, LW_LOG_ID_SIZE);
    int status = lw_judge_identity(j, tail, &j->header);
    if (status != LW_OK)
        return status;
    if (tail->size < j->header.size)
        return lw_fail_short(j, tail, j->header.size, lw_judge_lowest(j, &j->header), UINT64_MAX);
    j->found->successor = damaged > 0 ? tail->number + 1 : 0;
    bool only_successor = damaged == 1 && j->numbers[j->number_count - 1] == tail->number + 1;
    return damaged == 0 || only_successor ? LW_OK : fail_behind(j, tail, damaged);
}

/* From the highest number down to the first valid header: the tail. Leaves *tail open, or *have false. */
static int find_tail(lw_judge *j, lw_opened *tail, bool *have)
{
    *have = false;
    for (size_t damaged = 0; damaged < j->number_count; damaged++) {
        lw_decoded decoded;
        int status = lw_judge_open(j, j->numbers[j->number_count - 1 - damaged], j->writable, tail);
        if (status != LW_OK)
            return status;
        status = lw_judge_page(j, tail, 0, LW_HEADER, &j->header, &decoded);
        bool valid = status == LW_OK && decoded == LW_VALID;
        if (valid)
            status = judge_header(j, tail, damaged);
        *have = valid && status == LW_OK;
        if (*have)
            return LW_OK;
        j->fs->close(j->fs, tail->file);
        if (status != LW_OK)
            return status;
    }
    return LW_OK;
}

/* ---- the directory ---- */

static void oldest_first(lw_recovered *found)
{
    lw_segment **segments = lw_segment_list_items(&found->segments);
    for (size_t i = 0, last = found->segments.count - 1; i < last; i++, last--) {
        lw_segment *other = segments[last];
        segments[last] = segments[i];
        segments[i] = other;
    }
    lw_run *runs = lw_index_runs(&found->index);
    for (size_t i = 0; i < found->index.count / 2; i++) {
        lw_run other = runs[found->index.count - 1 - i];
        runs[found->index.count - 1 - i] = runs[i];
        runs[i] = other;
    }
}

/* Nothing needs them, and they will be removed; all the same a file of another log is not ours to remove. */
static int judge_leftovers(lw_judge *j)
{
    lw_recovered *found = j->found;
    uint64_t oldest = lw_recovered_tail(found)->identity.number; /* the last one, as they are newest first for now */
    for (size_t i = 0; i < j->number_count && j->numbers[i] < oldest; i++) {
        lw_opened o;
        lw_page header;
        lw_decoded decoded;
        int status = lw_judge_open(j, j->numbers[i], false, &o);
        if (status == LW_IO && j->error->sys_errno == ENOENT && !j->writable)
            continue; /* removed meanwhile, as it should be */
        if (status != LW_OK)
            return status;
        status = lw_judge_page(j, &o, 0, LW_HEADER, &header, &decoded);
        if (status == LW_OK && decoded == LW_VALID)
            status = lw_judge_identity(j, &o, &header);
        j->fs->close(j->fs, o.file);
        if (status != LW_OK)
            return status;
        if (keep_number(&found->leftovers, &found->leftover_count, j->numbers[i]))
            return lw_fail_errno(j->error, ENOMEM, NULL, "recovery");
    }
    return LW_OK;
}

static int judge_directory(lw_judge *j)
{
    lw_opened o;
    bool have;
    lw_segment *tail;
    int status = list_names(j);
    if (status == LW_OK)
        status = read_lock_file(j);
    if (status == LW_OK)
        status = find_tail(j, &o, &have);
    if (status != LW_OK)
        return status;
    if (!have)
        return judge_headerless(j);
    status = lw_judge_tail(j, &o, &tail);
    if (status != LW_OK)
        return status;
    if (!j->writable)
        lw_segment_close_file(tail);
    status = lw_judge_sealed(j, tail);
    j->found->is_partial = status != LW_OK && !j->writable;
    if (status == LW_OK)
        status = judge_leftovers(j);
    oldest_first(j->found);
    return status;
}

int lw_recovery_judge(lw_fs *fs, bool writable, const lw_segment_list *known, lw_recovered *found, lw_error *error)
{
    memset(found, 0, sizeof *found);
    lw_judge j = {.fs = fs, .writable = writable, .known = known, .found = found, .error = error};
    int status = judge_directory(&j);
    free(j.numbers);
    return status;
}
