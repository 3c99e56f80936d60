#include "verify.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"

/* ---- names and LOCK ---- */

static int keep_name(void *argument, const char *name)
{
    lw_verify *v = argument;
    uint64_t number;
    if (!lw_segment_name_parse(name, LW_SEGMENT_SUFFIX, &number))
        return 0;
    if ((v->number_count & (v->number_count - 1)) == 0) { /* a power of two: full */
        uint64_t *more = realloc(v->numbers, (v->number_count == 0 ? 1 : v->number_count * 2) * sizeof *more);
        if (more == NULL)
            return ENOMEM;
        v->numbers = more;
    }
    v->numbers[v->number_count++] = number;
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static int list_names(lw_verify *v)
{
    free(v->numbers);
    v->numbers = NULL;
    v->number_count = 0;
    int failed = v->fs->list(v->fs, keep_name, v);
    if (failed)
        return lw_fail_errno(v->error, failed, NULL, "cannot list the directory");
    if (v->number_count > 0)
        qsort(v->numbers, v->number_count, sizeof *v->numbers, compare_numbers);
    return LW_OK;
}

/* A LOCK that is missing, short or zero is no damage: the segments have the log id, too. */
static int read_lock(lw_verify *v)
{
    uint8_t bytes[LW_LOCK_SIZE];
    lw_file *file;
    uint64_t size = 0;
    v->has_log_id = v->lock_is_damaged = false;
    int failed = v->fs->open(v->fs, LW_LOCK_NAME, 0, &file);
    if (failed == ENOENT)
        return LW_OK;
    if (failed)
        return lw_fail_errno(v->error, failed, LW_LOCK_NAME, "cannot open the file");
    failed = v->fs->size(v->fs, file, &size);
    if (!failed && size >= LW_LOCK_SIZE)
        failed = v->fs->read(v->fs, file, 0, bytes, sizeof bytes);
    v->fs->close(v->fs, file);
    if (failed)
        return lw_fail_errno(v->error, failed, LW_LOCK_NAME, "cannot read the file");
    if (size < LW_LOCK_SIZE || lw_verify_is_zero(bytes, sizeof bytes))
        return LW_OK;
    lw_decoded decoded = lw_lock_decode(v->log_id, bytes);
    if (decoded == LW_NEWER_VERSION)
        return lw_verify_fail_newer(v, LW_LOCK_NAME);
    v->has_log_id = decoded == LW_VALID;
    v->lock_is_damaged = !v->has_log_id;
    return LW_OK;
}

/* ---- the tail ---- */

/* Looks from the highest number down for the first file that has a page of this log. */
static int find_tail(lw_verify *v, bool *have, bool *have_foreign)
{
    *have = *have_foreign = false;
    for (size_t i = v->number_count; i > 0; i--) {
        int status = lw_pages_load(v, v->numbers[i - 1], &v->here);
        if (status != LW_OK)
            return status;
        v->tail_at = i - 1;
        *have = v->here.has_identity;
        *have_foreign = *have_foreign || v->here.is_foreign;
        if (*have)
            return LW_OK;
        lw_pages_close(v, &v->here);
    }
    return LW_OK;
}

typedef struct zero_look {
    const lw_segment *segment;
    bool all_zero;
} zero_look;

static void zero_look_run(void *argument)
{
    zero_look *look = argument;
    look->all_zero = lw_verify_is_zero(look->segment->base, (size_t)look->segment->size);
}

enum { LOST_HEADER, NO_SEGMENT, PREPARED };

/* Says what a file without a valid page is: a prepared successor, which may hold frames of its file's earlier life; a segment that
 * has lost its header; or no segment at all. */
static int look_into(lw_verify *v, uint64_t number, lw_position end, bool must_be_zero, int *what, uint64_t *known_next)
{
    lw_segment *segment;
    int status = lw_pages_load(v, number, &v->after);
    if (status != LW_OK)
        return status;
    lw_pages *p = &v->after;
    *what = NO_SEGMENT;
    uint64_t size = p->file_size / LW_PAGE_SIZE * LW_PAGE_SIZE;
    if (p->has_identity || p->is_foreign || size < LW_MIN_SEGMENT_SIZE) {
        *what = p->has_identity ? PREPARED : NO_SEGMENT;
        bool has_appeared = p->has_identity;
        lw_pages_close(v, p);
        return has_appeared ? LW_NOT_FOUND : LW_OK; /* a writer has just made it the tail */
    }
    status = lw_segment_map(v->fs, p->file, p->name, size, false, &segment, v->error);
    p->file = NULL;
    if (status != LW_OK)
        return status;
    memcpy(segment->identity.log_id, v->log_id, LW_LOG_ID_SIZE);
    segment->identity.number = number;
    lw_look_ahead look = {.segment = segment, .from = LW_FRAMES_OFFSET, .end = end};
    zero_look zeros = {segment, true};
    int failed = lw_guarded(lw_look_ahead_run, &look);
    if (!failed && must_be_zero)
        failed = lw_guarded(zero_look_run, &zeros);
    lw_segment_unpin(segment);
    p->unreadable = failed ? EIO : p->unreadable;
    *what = look.contradicted || !zeros.all_zero ? LOST_HEADER : PREPARED;
    *known_next = look.contradicted ? look.known_next : UINT64_MAX;
    if (*what == PREPARED)
        return LW_OK;
    status = lw_pages_load(v, number, p); /* a writer may have stored the header meanwhile */
    if (status == LW_OK)
        lw_pages_close(v, p);
    return status == LW_OK && p->has_identity ? LW_NOT_FOUND : status;
}

/* No file has a valid page: the log is new, or its headers are lost. */
static int judge_headerless(lw_verify *v)
{
    uint64_t next = UINT64_MAX;
    int what = LOST_HEADER;
    lw_position nowhere = {0, 0};
    if (v->number_count == 0 && !v->has_log_id)
        return v->lock_is_damaged ? LW_OK : lw_fail_errno(v->error, ENOENT, NULL, "there is no log here");
    if (v->number_count == 0) {
        lw_damage *damage = lw_verify_add(v, LW_FOUND_MISSING_SEGMENT, 1, 0, true,
                                          "LOCK has a log id, but there are no segments: they were removed");
        if (damage == NULL)
            return lw_verify_no_memory(v);
        lw_damage_range(damage, 1, UINT64_MAX);
        return LW_OK;
    }
    uint64_t number = v->numbers[v->number_count - 1];
    bool is_first = v->number_count == 1 && number == 1;
    int status = is_first ? look_into(v, 1, nowhere, !v->has_log_id, &what, &next) : LW_OK;
    if (status != LW_OK)
        return status;
    if (what == PREPARED) {
        v->lock_is_damaged = false; /* the creation of the log was cut short */
        return v->has_log_id ? LW_OK : lw_fail_errno(v->error, ENOENT, NULL, "there is no log here");
    }
    lw_damage *damage = lw_verify_add(v, LW_FOUND_HEADER, number, 0, true, "no segment has a valid header: the whole log is lost");
    if (damage == NULL)
        return lw_verify_no_memory(v);
    lw_damage_range(damage, 1, next == UINT64_MAX ? next : next - 1);
    return LW_OK;
}

int lw_verify_directory(lw_verify *v, bool *have)
{
    bool have_foreign;
    int status = list_names(v);
    if (status == LW_OK)
        status = read_lock(v);
    bool lock_is_another = false;
    if (status == LW_OK)
        status = find_tail(v, have, &have_foreign);
    if (status == LW_OK && !*have && have_foreign) { /* is the id in LOCK wrong, or are the files? */
        lock_is_another = v->has_log_id;
        v->has_log_id = false;
        status = find_tail(v, have, &have_foreign);
    }
    if (status == LW_OK && !*have)
        status = judge_headerless(v);
    if (status != LW_OK)
        return status;
    if (v->lock_is_damaged &&
        lw_verify_add(v, LW_FOUND_LOCK, 0, 0, true, "the log id in LOCK is damaged; the segments have it, too") == NULL)
        return lw_verify_no_memory(v);
    if (lock_is_another && *have &&
        lw_verify_add(v, LW_FOUND_LOCK, 0, 0, true, "the log id in LOCK is not that of the segments") == NULL)
        return lw_verify_no_memory(v);
    return LW_OK;
}

/* ---- the files before and behind ---- */

/* The next open refuses a directory with such a file, so the finding is one that counts. */
static int add_foreign(lw_verify *v, const lw_pages *p)
{
    bool is_other_log = !v->has_log_id || memcmp(p->header.identity.log_id, v->log_id, LW_LOG_ID_SIZE) != 0;
    return lw_verify_add(v, LW_FOUND_FOREIGN_FILE, p->number, 0, true,
                         is_other_log ? "the file belongs to another log; move it out of this directory"
                                      : "the file is another segment under this one's name; give it its own name back") == NULL
               ? lw_verify_no_memory(v)
               : LW_OK;
}

/* `*last`: the number of the last segment so far. Its successor may be prepared. */
static int look_behind(lw_verify *v, uint64_t number, uint64_t *last)
{
    int what;
    uint64_t next = 0;
    lw_damage *damage = NULL;
    int status = look_into(v, number, v->end, false, &what, &next);
    if (status != LW_OK || (what == PREPARED && number == *last + 1 && v->after.unreadable == 0))
        return status;
    if (v->after.unreadable != 0)
        return lw_verify_add_unreadable(v, number, 0, v->after.unreadable);
    if (what == LOST_HEADER) {
        *last = number;
        damage = lw_verify_add(v, LW_FOUND_HEADER, number, 0, true,
                               "the header is damaged, but a commit in the file knew of durable entries in it");
        if (damage != NULL)
            lw_damage_range(damage, v->state.bounds.next, next - 1);
    } else if (v->after.is_foreign) {
        return add_foreign(v, &v->after);
    } else {
        damage = lw_verify_add(v, LW_FOUND_FOREIGN_FILE, number, 0, true,
                               "the file has the name of a segment and holds nothing of this log; no entry is lost, but the log "
                               "does not open until the file is moved out of this directory");
    }
    return damage == NULL ? lw_verify_no_memory(v) : LW_OK;
}

int lw_verify_behind(lw_verify *v)
{
    uint64_t last = v->numbers[v->tail_at];
    int status = LW_OK;
    for (size_t i = v->tail_at + 1; i < v->number_count && status == LW_OK; i++)
        status = look_behind(v, v->numbers[i], &last);
    return status;
}

int lw_verify_obsolete(lw_verify *v)
{
    for (size_t i = 0; i < v->number_count && v->numbers[i] < v->here.number; i++) {
        int status = lw_pages_load(v, v->numbers[i], &v->after);
        if (status == LW_NOT_FOUND) /* purged, and removed */
            continue;
        if (status == LW_OK && v->after.is_foreign)
            status = add_foreign(v, &v->after);
        lw_pages_close(v, &v->after);
        if (status != LW_OK)
            return status;
    }
    return LW_OK;
}
