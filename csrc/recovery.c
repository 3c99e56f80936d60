/*
 * Who proves what. The newest valid header proves the segment before it, whole, by the check of its footer; that one's
 * header proves the one before; and so on. The newest segment itself is proven by nothing, so it is read frame by frame, and
 * what its frames end with is held against everything that was ever known to be durable: the watermarks.
 */
#include "recovery.h"

#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "error.h"
#include "prepare.h"
#include "step.h"
#include "walk.h"

enum { RESTORE_STEP = 1 << 16 };

typedef struct judge {
    lw_fs *fs;
    bool writable;
    lw_recovered *found;
    lw_error *error;
    uint64_t *numbers; /* of all segment files, ascending */
    size_t number_count;
    bool lock_damaged;
    lw_page header; /* of the segment that is looked at: the tail first, then the ones before it */
} judge;

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

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
    judge *j = argument;
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

static int list_names(judge *j)
{
    int failed = j->fs->list(j->fs, visit_name, j);
    if (failed)
        return lw_fail_errno(j->error, failed, NULL, "cannot list the directory");
    if (j->number_count > 0)
        qsort(j->numbers, j->number_count, sizeof *j->numbers, compare_numbers);
    return LW_OK;
}

static bool exists(const judge *j, uint64_t number)
{
    for (size_t i = j->number_count; i > 0; i--)
        if (j->numbers[i - 1] == number)
            return true;
    return false;
}

static int read_lock_file(judge *j)
{
    uint8_t bytes[LW_LOCK_SIZE];
    lw_file *file;
    uint64_t size = 0;
    j->found->lock_missing = true;
    int failed = j->fs->open(j->fs, LW_LOCK_NAME, 0, &file);
    if (failed == ENOENT)
        return LW_OK;
    if (failed)
        return lw_fail_errno(j->error, failed, LW_LOCK_NAME, "open");
    failed = j->fs->size(j->fs, file, &size);
    if (!failed && size >= LW_LOCK_SIZE)
        failed = j->fs->read(j->fs, file, 0, bytes, sizeof bytes);
    j->fs->close(j->fs, file);
    if (failed)
        return lw_fail_errno(j->error, failed, LW_LOCK_NAME, "read");
    if (size == 0)
        return LW_OK;
    lw_decoded decoded = size < LW_LOCK_SIZE ? LW_DAMAGED : lw_lock_decode(j->found->log_id, bytes);
    if (decoded == LW_NEWER_VERSION)
        return lw_fail(j->error, LW_UNSUPPORTED_FORMAT, "LOCK was written by a newer version of the library");
    j->lock_damaged = decoded == LW_DAMAGED;
    j->found->lock_missing = j->lock_damaged;
    return LW_OK;
}

/* Where no segment was ever begun, a LOCK that is damaged was being written when the log was made. */
static int fail_lock_damaged(judge *j)
{
    return lw_fail_corrupt(j->error, LW_LOCK_NAME, 0, 1, 0,
                           "the log id in LOCK is damaged; if the segments are intact, remove LOCK (with no writer "
                           "running), and the id is taken from them");
}

/* ---- single files and pages ---- */

typedef struct opened {
    uint64_t number;
    char name[LW_NAME_SIZE];
    lw_file *file;
    uint64_t size;
} opened;

static int open_number(judge *j, uint64_t number, bool writable, opened *o)
{
    o->number = number;
    lw_segment_name(number, LW_SEGMENT_SUFFIX, o->name);
    int failed = j->fs->open(j->fs, o->name, writable ? LW_OPEN_WRITE : 0, &o->file);
    if (failed)
        return lw_fail_errno(j->error, failed, o->name, "open");
    failed = j->fs->size(j->fs, o->file, &o->size);
    if (!failed)
        return LW_OK;
    j->fs->close(j->fs, o->file);
    return lw_fail_errno(j->error, failed, o->name, "size");
}

/* LW_OK also where the page is damaged: *decoded tells. */
static int read_page(judge *j, const opened *o, uint64_t offset, lw_page_type type, lw_page *page, lw_decoded *decoded)
{
    uint8_t bytes[LW_PAGE_SIZE];
    *decoded = LW_DAMAGED;
    if (o->size < LW_PAGE_SIZE || offset > o->size - LW_PAGE_SIZE)
        return LW_OK;
    int failed = j->fs->read(j->fs, o->file, offset, bytes, sizeof bytes);
    if (failed)
        return lw_fail_errno(j->error, failed, o->name, "read");
    *decoded = lw_page_decode(page, type, bytes);
    if (*decoded == LW_NEWER_VERSION)
        return lw_fail(j->error, LW_UNSUPPORTED_FORMAT, "%s was written by a newer version of the library", o->name);
    return LW_OK;
}

static bool same_identity(const lw_identity *a, const lw_identity *b)
{
    return memcmp(a->log_id, b->log_id, LW_LOG_ID_SIZE) == 0 && a->number == b->number && a->nonce == b->nonce;
}

/* A page that verifies but is another file's: nothing may be concluded from it. */
static int check_identity(judge *j, const opened *o, const lw_page *page)
{
    if (memcmp(page->identity.log_id, j->found->log_id, LW_LOG_ID_SIZE) != 0)
        return lw_fail_corrupt(j->error, o->name, 0, 1, 0, "the file belongs to another log; move it out of this directory");
    if (page->identity.number != o->number)
        return lw_fail_corrupt(j->error, o->name, 0, 1, 0,
                               "the file is segment %llu under another's name; give it its own name back",
                               (unsigned long long)page->identity.number);
    return LW_OK;
}

static int fail_short(judge *j, const opened *o, uint64_t size, uint64_t first, uint64_t last)
{
    return lw_fail_corrupt(j->error, o->name, o->size, first, last, "the file is %llu bytes long and should be %llu",
                           (unsigned long long)o->size, (unsigned long long)size);
}

static int fail_guarded(judge *j, const char *name)
{
    return lw_fail_errno(j->error, EIO, name, "the mapped file could not be read");
}

static int add_segment(judge *j, opened *o, const lw_page *header, bool writable, lw_segment **out)
{
    lw_recovered *found = j->found;
    lw_segment **more = realloc(found->segments, (found->segment_count + 1) * sizeof *more);
    if (more == NULL) {
        j->fs->close(j->fs, o->file);
        return lw_fail_errno(j->error, ENOMEM, o->name, "open");
    }
    found->segments = more;
    int status = lw_segment_map(j->fs, o->file, o->name, header->size, writable, out, j->error);
    if (status != LW_OK)
        return status;
    lw_segment_set_identity(*out, &header->identity);
    (*out)->header_check = header->check;
    found->segments[found->segment_count++] = *out; /* newest first for now */
    return LW_OK;
}

/* ---- the tail ---- */

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

/* Looks into a file whose header is not valid for anything that knew of a durable place behind `end`. */
static int look_into_successor(judge *j, uint64_t number, lw_position end, uint64_t next)
{
    opened o;
    lw_page mark;
    lw_decoded decoded;
    int status = open_number(j, number, false, &o);
    if (status != LW_OK)
        return status;
    uint64_t size = o.size / LW_PAGE_SIZE * LW_PAGE_SIZE;
    status = read_page(j, &o, LW_MARK_OFFSET, LW_CLOSE_MARK, &mark, &decoded);
    if (status != LW_OK || size < LW_MIN_SEGMENT_SIZE) {
        j->fs->close(j->fs, o.file);
        return status != LW_OK ? status : fail_short(j, &o, LW_MIN_SEGMENT_SIZE, next, UINT64_MAX);
    }
    lw_segment *segment;
    status = lw_segment_map(j->fs, o.file, o.name, size, false, &segment, j->error);
    if (status != LW_OK)
        return status;
    memcpy(segment->identity.log_id, j->found->log_id, LW_LOG_ID_SIZE);
    segment->identity.number = number;
    lw_look_ahead look = {.segment = segment, .from = LW_FRAMES_OFFSET, .end = end};
    if (lw_guarded(lw_look_ahead_run, &look))
        status = fail_guarded(j, o.name);
    else if (decoded == LW_VALID && memcmp(mark.identity.log_id, j->found->log_id, LW_LOG_ID_SIZE) == 0 &&
             mark.identity.number == number && lw_position_before(end, mark.watermark))
        status = lw_fail_corrupt(j->error, o.name, 0, next, mark.state.bounds.next - 1,
                                 "the header is damaged, but the file was closed with entries");
    else if (look.contradicted)
        status = lw_fail_corrupt(j->error, o.name, 0, next, look.known_next - 1,
                                 "the header is damaged, but a commit at offset %llu knew of durable entries in the file",
                                 (unsigned long long)look.contradiction_offset);
    lw_segment_unpin(segment);
    return status;
}

static int fail_no_header(judge *j)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(j->numbers[j->number_count - 1], LW_SEGMENT_SUFFIX, name);
    return lw_fail_corrupt(j->error, name, 0, 1, UINT64_MAX, "no segment has a valid header: the whole log is lost");
}

/* No header is valid: a log whose making was cut short, or one that lost its headers. */
static int judge_headerless(judge *j)
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
    if (!found->lock_missing)
        return look_into_successor(j, 1, nowhere, 1);
    opened o;
    int status = open_number(j, 1, false, &o);
    if (status != LW_OK)
        return status;
    if (o.size < LW_MIN_SEGMENT_SIZE) {
        j->fs->close(j->fs, o.file);
        return fail_short(j, &o, LW_MIN_SEGMENT_SIZE, 1, UINT64_MAX);
    }
    lw_segment *segment;
    uint64_t size = o.size / LW_PAGE_SIZE * LW_PAGE_SIZE;
    status = lw_segment_map(j->fs, o.file, o.name, size, false, &segment, j->error);
    if (status != LW_OK)
        return status;
    zero_scan scan = {segment->base, segment->size, false};
    if (lw_guarded(zero_scan_run, &scan))
        status = fail_guarded(j, o.name);
    else if (!scan.all_zero)
        status = fail_no_header(j);
    lw_segment_unpin(segment);
    return status;
}

/* The lowest index that the frames of a segment with a valid header speak of, which may lie before those that it began
 * with. Best effort: for the range in an error that is reported anyway. */
static uint64_t lowest_in_frames(judge *j, const lw_page *header)
{
    lw_error ignored;
    lw_error *reported = j->error;
    uint64_t lowest = header->state.bounds.next;
    lw_segment *segment;
    opened o;
    j->error = &ignored;
    int status = open_number(j, header->identity.number, false, &o);
    j->error = reported;
    if (status != LW_OK)
        return lowest;
    uint64_t size = min64(o.size, header->size) / LW_PAGE_SIZE * LW_PAGE_SIZE;
    if (size < LW_FRAMES_OFFSET + 2 * LW_PAGE_SIZE) {
        j->fs->close(j->fs, o.file);
        return lowest;
    }
    if (lw_segment_map(j->fs, o.file, o.name, size, false, &segment, &ignored) != LW_OK)
        return lowest;
    lw_segment_set_identity(segment, &header->identity);
    lw_look_ahead look = {.segment = segment, .has_seed = true, .from = LW_FRAMES_OFFSET};
    if (lw_guarded(lw_look_ahead_run, &look) == 0)
        lowest = min64(lowest, look.lowest_index);
    lw_segment_unpin(segment);
    return max64(lowest, header->state.bounds.first);
}

/* From the highest number down to the first valid header: the tail. Leaves *tail open, or *have false. */
static int find_tail(judge *j, opened *tail, bool *have)
{
    size_t damaged = 0;
    *have = false;
    for (size_t i = j->number_count; i > 0; i--) {
        lw_decoded decoded;
        int status = open_number(j, j->numbers[i - 1], j->writable, tail);
        if (status != LW_OK)
            return status;
        status = read_page(j, tail, 0, LW_HEADER, &j->header, &decoded);
        if (status == LW_OK && decoded == LW_VALID) {
            if (j->lock_damaged)
                status = fail_lock_damaged(j);
            else if (j->found->lock_missing)
                memcpy(j->found->log_id, j->header.identity.log_id, LW_LOG_ID_SIZE);
            if (status == LW_OK)
                status = check_identity(j, tail, &j->header);
            uint64_t next = j->header.state.bounds.next;
            if (status == LW_OK && tail->size < j->header.size)
                status = fail_short(j, tail, j->header.size, lowest_in_frames(j, &j->header), UINT64_MAX);
            else if (status == LW_OK && damaged > 0 &&
                     (damaged > 1 || j->numbers[j->number_count - 1] != tail->number + 1))
                status = lw_fail_corrupt(j->error, tail->name, 0, next, UINT64_MAX,
                                         "segments behind this one are damaged or missing");
            *have = status == LW_OK;
        }
        if (*have) {
            j->found->successor = damaged > 0 ? tail->number + 1 : 0;
            return LW_OK;
        }
        j->fs->close(j->fs, tail->file);
        if (status != LW_OK)
            return status;
        damaged++;
    }
    return LW_OK;
}

typedef struct closed_tail {
    lw_segment *segment;
    const lw_page *mark;
    bool sound;
    bool out_of_memory;
} closed_tail;

/* Takes the offset index over from where the clean close left it, if it verifies and nothing was written since. */
static void closed_tail_run(void *argument)
{
    closed_tail *closed = argument;
    lw_segment *segment = closed->segment;
    const lw_page *mark = closed->mark;
    const uint8_t *items = segment->base + lw_index_offset(segment->size, mark->index_count);
    lw_frame frame;
    if (lw_crc32c(0, items, (size_t)(mark->index_count * LW_INDEX_ITEM_SIZE)) != mark->index_check ||
        (lw_frame_decode(&frame, segment->seed, segment->base + mark->end, segment->size - LW_PAGE_SIZE - mark->end) &&
         frame.previous == mark->chain))
        return;
    if (lw_segment_reserve(segment, mark->index_count) != LW_OK) {
        closed->out_of_memory = true;
        return;
    }
    for (uint64_t i = 0; i < mark->index_count; i++)
        segment->index_items[i] = lw_index_item_load(items, i);
    segment->index_first = mark->index_first;
    segment->index_count = mark->index_count;
    segment->lowest_override = mark->lowest_override;
    segment->end = mark->end;
    segment->chain = mark->chain;
    closed->sound = true;
}

/* What is damaged may have replaced entries before `next`: frames behind it tell how far back. */
static int fail_torn_below_watermark(judge *j, const lw_segment *tail, uint64_t known_next, uint64_t lowest)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    uint64_t next = j->found->state.bounds.next;
    uint64_t first = lowest < next ? max64(lowest, j->found->state.bounds.first) : next;
    return lw_fail_corrupt(j->error, name, tail->end, first, known_next > next ? known_next - 1 : next,
                           "a frame here is damaged, but what was written later knew it to be durable");
}

/* Behind the last whole batch: a torn tail, or damage to what was once durable? */
static int judge_tail_end(judge *j, lw_segment *tail, uint64_t mark_next)
{
    lw_recovered *found = j->found;
    lw_position end = {tail->identity.number, tail->end};
    lw_look_ahead look = {.segment = tail, .has_seed = true, .from = tail->end, .end = end};
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    if (lw_guarded(lw_look_ahead_run, &look))
        return fail_guarded(j, name);
    uint64_t known_next = look.known_next > mark_next ? look.known_next : mark_next;
    if (LW_STEP(WATERMARK_CHECK) && (look.contradicted || lw_position_before(end, found->watermark)))
        return fail_torn_below_watermark(j, tail, known_next, look.lowest_index);
    found->cut_bytes = look.frames_end - tail->end;
    found->cut_batches = look.commits;
    if (found->successor == 0 || !LW_STEP(LOOK_INTO_SUCCESSOR))
        return LW_OK;
    return look_into_successor(j, found->successor, end, found->state.bounds.next);
}

/* Beside a writer the look behind the end may meet what was written after the walk: that is no damage if the walk can go on,
 * and is judged again from where it then ends. */
static int walk_tail(judge *j, lw_segment *tail, uint64_t mark_next)
{
    lw_recovered *found = j->found;
    lw_walk walk = {.segment = tail, .state = j->header.state, .watermark = found->watermark};
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    j->fs->will_read(j->fs, tail->file, tail->size);
    int status = LW_OK;
    for (uint64_t judged_end = 0;; judged_end = tail->end) {
        if (lw_guarded(lw_walk_run, &walk))
            return fail_guarded(j, name);
        if (walk.out_of_memory)
            return lw_fail_errno(j->error, ENOMEM, name, "the offset index");
        if (tail->end == judged_end)
            return status;
        lw_durable_index durable = {.segment = tail, .watermark = walk.watermark, .index = j->header.state.bounds.next - 1};
        found->state = walk.state;
        found->watermark = walk.watermark;
        found->walked_bytes = tail->end - LW_FRAMES_OFFSET;
        if (lw_guarded(lw_durable_index_run, &durable))
            return fail_guarded(j, name);
        found->durable_index = durable.index;
        found->durable_floor = j->header.state.bounds.first - 1;
        status = judge_tail_end(j, tail, mark_next);
        if (status != LW_CORRUPTION || j->writable)
            return status;
    }
}

static int read_tail(judge *j, opened *o, lw_segment **out)
{
    lw_recovered *found = j->found;
    lw_page mark;
    lw_page footer;
    lw_decoded has_mark;
    lw_decoded has_footer;
    int status = read_page(j, o, LW_MARK_OFFSET, LW_CLOSE_MARK, &mark, &has_mark);
    if (status == LW_OK)
        status = read_page(j, o, j->header.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &has_footer);
    if (status != LW_OK) {
        j->fs->close(j->fs, o->file);
        return status;
    }
    status = add_segment(j, o, &j->header, j->writable, out);
    if (status != LW_OK)
        return status;
    lw_segment *tail = *out;
    bool sealed = has_footer == LW_VALID && same_identity(&footer.identity, &tail->identity);
    if (sealed && found->successor == 0)
        return lw_fail_corrupt(j->error, o->name, 0, footer.state.bounds.next, UINT64_MAX,
                               "the segment is sealed, but the one after it is gone");
    found->watermark = j->header.watermark;
    bool closed = has_mark == LW_VALID && same_identity(&mark.identity, &tail->identity) && mark.size == tail->size;
    if (closed && lw_position_before(found->watermark, mark.watermark))
        found->watermark = mark.watermark;
    if (sealed && lw_position_before(found->watermark, footer.watermark))
        found->watermark = footer.watermark;
    if (sealed && !LW_STEP(WALK_UNPROVEN)) {
        mark = footer;
        closed = true;
        sealed = false;
    }
    if (!closed || sealed) /* sealed: entries may have gone to the successor */
        return walk_tail(j, tail, closed ? mark.state.bounds.next : 0);
    closed_tail taken = {.segment = tail, .mark = &mark};
    if (lw_guarded(closed_tail_run, &taken))
        return fail_guarded(j, o->name);
    if (taken.out_of_memory)
        return lw_fail_errno(j->error, ENOMEM, o->name, "the offset index");
    if (!taken.sound)
        return walk_tail(j, tail, mark.state.bounds.next);
    found->state = mark.state;
    found->durable_index = mark.state.bounds.next - 1;
    found->durable_floor = mark.state.bounds.first - 1;
    found->closed_cleanly = true;
    return LW_OK;
}

/* ---- the segments before it ---- */

/* The first index that is lost with segment `number`, as well as what is left can tell. Where neither its header nor its
 * footer is left, what it replaced of older segments is not known. */
static uint64_t first_lost(judge *j, uint64_t number, uint64_t lowest)
{
    lw_error ignored;
    lw_error *reported = j->error;
    uint64_t first = j->found->state.bounds.first;
    j->error = &ignored;
    for (unsigned back = 0; back < 2 && number > back; back++) {
        opened o;
        lw_page header;
        lw_page footer;
        lw_decoded decoded;
        if (!exists(j, number - back) || open_number(j, number - back, false, &o) != LW_OK)
            continue;
        int status = read_page(j, &o, 0, LW_HEADER, &header, &decoded);
        if (back == 0 && status == LW_OK && decoded == LW_VALID && header.identity.number == number) {
            j->fs->close(j->fs, o.file);
            first = max64(first, min64(lowest_in_frames(j, &header), lowest - 1));
            break;
        }
        status = read_page(j, &o, o.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &decoded);
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
static int read_sealed(judge *j, uint64_t lowest, lw_segment **out)
{
    opened o;
    lw_page footer;
    lw_decoded decoded;
    lw_page after = j->header;
    uint64_t number = after.predecessor;
    if (number == 0 || number != after.identity.number - 1 || !exists(j, number)) {
        char name[LW_NAME_SIZE];
        lw_segment_name(after.identity.number - 1, LW_SEGMENT_SUFFIX, name);
        return lw_fail_corrupt(j->error, name, 0, first_lost(j, after.identity.number - 1, lowest), lowest - 1,
                               "the segment is missing");
    }
    int status = open_number(j, number, false, &o);
    if (status != LW_OK)
        return status;
    status = read_page(j, &o, 0, LW_HEADER, &j->header, &decoded);
    if (status == LW_OK && decoded != LW_VALID)
        status = lw_fail_corrupt(j->error, o.name, 0, first_lost(j, number, lowest), lowest - 1, "the header is damaged");
    if (status == LW_OK)
        status = check_identity(j, &o, &j->header);
    if (status == LW_OK && o.size < j->header.size)
        status = fail_short(j, &o, j->header.size, first_lost(j, number, lowest), lowest - 1);
    if (status == LW_OK)
        status = read_page(j, &o, j->header.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &decoded);
    if (status == LW_OK && (decoded != LW_VALID || (LW_STEP(PROOF) && footer.check != after.predecessor_check) ||
                            !same_identity(&footer.identity, &j->header.identity)))
        status = lw_fail_corrupt(j->error, o.name, j->header.size - LW_PAGE_SIZE, first_lost(j, number, lowest),
                                 lowest - 1, "the footer is damaged, or not the one that the next segment names");
    if (status != LW_OK) {
        j->fs->close(j->fs, o.file);
        return status;
    }
    status = add_segment(j, &o, &j->header, false, out);
    if (status != LW_OK)
        return status;
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

static int prepend_run(judge *j, lw_segment *segment, uint64_t first, uint64_t next)
{
    if (lw_index_reserve(&j->found->index) != LW_OK)
        return lw_fail_errno(j->error, ENOMEM, NULL, "the index");
    lw_index_append(&j->found->index, segment, first, next); /* newest first for now */
    return LW_OK;
}

/* Every index from first to next must map to a place: from the tail backwards until they all do. */
static int map_indices(judge *j, lw_segment *segment)
{
    uint64_t first = j->found->state.bounds.first;
    uint64_t lowest = j->found->state.bounds.next; /* all from here on are mapped */
    uint64_t limit = lowest;                       /* what older segments hold from here on was overridden */
    for (;;) {
        uint64_t next = min64(segment->index_first + segment->index_count, limit);
        if (segment->index_count > 0 && segment->index_first < next && next > first) {
            if (next != lowest)
                break;
            lowest = max64(first, segment->index_first);
            int status = prepend_run(j, segment, lowest, next);
            if (status != LW_OK)
                return status;
            limit = min64(limit, segment->index_first);
        }
        limit = min64(limit, segment->lowest_override);
        if (lowest <= first)
            return LW_OK;
        int status = read_sealed(j, lowest, &segment);
        if (status != LW_OK)
            return status;
    }
    char name[LW_NAME_SIZE];
    lw_segment_name_of(segment, name);
    return lw_fail_corrupt(j->error, name, 0, min64(segment->index_first + segment->index_count, limit), lowest - 1,
                           "entries that the log counts are in no segment");
}

static void oldest_first(lw_recovered *found)
{
    for (size_t i = 0; i < found->segment_count / 2; i++) {
        lw_segment *other = found->segments[found->segment_count - 1 - i];
        found->segments[found->segment_count - 1 - i] = found->segments[i];
        found->segments[i] = other;
    }
    for (size_t i = 0; i < found->index.count / 2; i++) {
        lw_run other = found->index.runs[found->index.count - 1 - i];
        found->index.runs[found->index.count - 1 - i] = found->index.runs[i];
        found->index.runs[i] = other;
    }
}

/* Nothing needs them, and they will be removed; all the same a file of another log is not ours to remove. */
static int judge_leftovers(judge *j)
{
    lw_recovered *found = j->found;
    uint64_t oldest = found->segments[found->segment_count - 1]->identity.number;
    for (size_t i = 0; i < j->number_count && j->numbers[i] < oldest; i++) {
        opened o;
        lw_page header;
        lw_decoded decoded;
        int status = open_number(j, j->numbers[i], false, &o);
        if (status != LW_OK)
            return status;
        status = read_page(j, &o, 0, LW_HEADER, &header, &decoded);
        if (status == LW_OK && decoded == LW_VALID)
            status = check_identity(j, &o, &header);
        j->fs->close(j->fs, o.file);
        if (status != LW_OK)
            return status;
        if (keep_number(&found->leftovers, &found->leftover_count, j->numbers[i]))
            return lw_fail_errno(j->error, ENOMEM, NULL, "recovery");
    }
    return LW_OK;
}

/* Beside a writer: a file that was used again after its header was read looks like a segment without frames. */
static int check_not_recycled(judge *j)
{
    for (size_t i = 0; i < j->found->segment_count; i++) {
        char name[LW_NAME_SIZE];
        const lw_segment *segment = j->found->segments[i];
        lw_segment_name_of(segment, name);
        if (lw_segment_was_recycled(segment))
            return lw_fail_corrupt(j->error, name, 0, 1, 0, "the header has changed while the log was read");
    }
    return LW_OK;
}

static int judge_directory(judge *j)
{
    opened o;
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
    status = read_tail(j, &o, &tail);
    if (status == LW_OK)
        status = map_indices(j, tail);
    if (status == LW_OK)
        status = judge_leftovers(j);
    if (status == LW_OK && !j->writable)
        status = check_not_recycled(j);
    if (status == LW_OK)
        oldest_first(j->found);
    return status;
}

int lw_recovery_judge(lw_fs *fs, bool writable, lw_recovered *found, lw_error *error)
{
    memset(found, 0, sizeof *found);
    judge j = {.fs = fs, .writable = writable, .found = found, .error = error};
    int status = judge_directory(&j);
    free(j.numbers);
    return status;
}

void lw_recovered_free(lw_recovered *found)
{
    for (size_t i = 0; i < found->segment_count; i++)
        lw_segment_unpin(found->segments[i]);
    free(found->segments);
    lw_index_free(&found->index);
    free(found->leftovers);
    free(found->spares);
    memset(found, 0, sizeof *found);
}

/* ---- acting ---- */

/* The file's name is durable already, or is made so before anything is served. */
static int write_log_id(lw_fs *fs, lw_file *lock_file, const lw_recovered *found, lw_error *error)
{
    uint8_t bytes[LW_LOCK_SIZE];
    lw_lock_encode(found->log_id, bytes);
    int failed = fs->write(fs, lock_file, 0, bytes, sizeof bytes);
    if (!failed && LW_STEP(SYNC_LOCK))
        failed = fs->sync(fs, lock_file);
    return failed ? lw_fail_errno(error, failed, LW_LOCK_NAME, "cannot write the log id") : LW_OK;
}

int lw_recovery_make(lw_fs *fs, lw_file *lock_file, uint64_t size, lw_recovered *found, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(1, LW_SEGMENT_SUFFIX, name);
    int status = LW_OK;
    if (found->successor == 0) {
        status = lw_prepare_fill(fs, 1, size, NULL, NULL, error);
        if (status == LW_OK)
            status = lw_prepare_name(fs, 1, 1, error);
    } else {
        status = lw_prepare_wipe(fs, name, error);
        if (status == LW_OK)
            status = lw_prepare_extend(fs, name, LW_FRAMES_OFFSET, size, error);
    }
    if (status != LW_OK)
        return status;
    int failed = fs->sync_dir(fs);
    if (!failed && found->lock_missing)
        failed = fs->random(fs, found->log_id, LW_LOG_ID_SIZE);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot make the log");
    /* Also where it was read: perhaps only from the cache, if the open that wrote it did not come to its sync. */
    if (found->lock_missing || LW_STEP(LOCK_AGAIN))
        status = write_log_id(fs, lock_file, found, error);
    found->successor = status == LW_OK ? 1 : 0;
    return status;
}

typedef struct restore {
    lw_segment *tail;
    uint64_t from;
    uint64_t cut_bytes;
    uint8_t *copy;
} restore;

/* A page that the cache holds but the disk does not, since its sync failed, counts as clean: storing the same bytes again
 * makes the next sync write it. */
static void restore_run(void *argument)
{
    restore *r = argument;
    /* A close mark that was not believed must not be believed by a later open: it knows nothing of what comes now. */
    lw_fs_zero(r->tail->base + LW_MARK_OFFSET, LW_PAGE_SIZE);
    for (uint64_t at = r->from; LW_STEP(RESTORE) && at < r->tail->end;) {
        size_t size = RESTORE_STEP - (size_t)(at % RESTORE_STEP);
        if (size > r->tail->end - at)
            size = (size_t)(r->tail->end - at);
        memcpy(r->copy, r->tail->base + at, size);
        lw_fs_store(r->tail->base + at, r->copy, size);
        at += size;
    }
    if (r->cut_bytes > 0 && LW_STEP(ZERO_TORN))
        lw_fs_zero(r->tail->base + r->tail->end, (size_t)r->cut_bytes);
}

static int restore_tail(lw_fs *fs, lw_recovered *found, lw_error *error)
{
    lw_segment *tail = found->segments[found->segment_count - 1];
    restore r = {.tail = tail, .cut_bytes = found->cut_bytes, .copy = malloc(RESTORE_STEP)};
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    if (r.copy == NULL)
        return lw_fail_errno(error, ENOMEM, name, "recovery");
    /* Below the watermark all is on the disk; the header is, if anything in its segment is. */
    r.from = found->watermark.segment == tail->identity.number ? found->watermark.offset : 0;
    int failed = lw_guarded(restore_run, &r);
    free(r.copy);
    if (!failed && LW_STEP(SYNC_RESTORED))
        failed = fs->sync(fs, tail->file);
    return failed ? lw_fail_errno(error, failed, name, "what was recovered could not be made durable") : LW_OK;
}

int lw_recovery_act(lw_fs *fs, lw_file *lock_file, lw_recovered *found, lw_error *error)
{
    int status = found->lock_missing ? write_log_id(fs, lock_file, found, error) : LW_OK;
    if (status == LW_OK && !found->closed_cleanly)
        status = restore_tail(fs, found, error);
    if (status != LW_OK)
        return status;
    int failed = LW_STEP(SYNC_DIR_OPENED) ? fs->sync_dir(fs) : 0;
    if (failed)
        return lw_fail_errno(error, failed, NULL, "the directory could not be synced");
    for (size_t i = 0; i < found->leftover_count; i++) {
        char name[LW_NAME_SIZE];
        lw_segment_name(found->leftovers[i], LW_SEGMENT_SUFFIX, name);
        (void)fs->remove(fs, name); /* it stays a leftover */
    }
    found->durable_index = found->state.bounds.next - 1;
    found->watermark = (lw_position){found->segments[found->segment_count - 1]->identity.number,
                                     found->segments[found->segment_count - 1]->end};
    return LW_OK;
}
