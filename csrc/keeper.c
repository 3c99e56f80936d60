#include "keeper.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "prepare.h"
#include "step.h"
#include "syncer.h"

enum { PREPARE_WHEN_FULL = 8 }; /* an eighth */

/* Names of files made here never meet those of segments that become spares. */
#define FIRST_MADE_SPARE ((uint64_t)1 << 63)

bool lw_wants_successor(const lw_wal *wal)
{
    if (wal->successor != 0 || wal->preparing || wal->failed || wal->tail == NULL)
        return false;
    if (wal->successor_wanted)
        return true;
    return wal->options.spare_segments > 0 && wal->prepare_error.status == LW_OK &&
           wal->tail->end >= wal->tail->size / PREPARE_WHEN_FULL;
}

static bool wants_spare(const lw_wal *wal)
{
    return wal->successor != 0 && !wal->preparing && !wal->failed && wal->prepare_error.status == LW_OK &&
           wal->spare_count + 1 < wal->options.spare_segments;
}

/* ---- removing and recycling ---- */

static bool is_useless(const lw_wal *wal, const lw_segment *segment)
{
    bool visible = wal->index.count > 0 && wal->index.runs[0].segment == segment;
    /* Its state has to live on in a younger header that is durable, too. */
    bool header_is_durable = wal->durable.segment > segment->identity.number || !LW_STEP(HEADER_BEFORE_UNLINK);
    bool boundary_is_durable = wal->durable_ticket >= segment->dead_ticket || !LW_STEP(BOUNDARY_BEFORE_UNLINK);
    return segment != wal->tail && !visible && boundary_is_durable && header_is_durable;
}

static bool can_recycle(const lw_wal *wal, const lw_segment *segment)
{
    bool short_of_files = wal->successor == 0 ? wal->spare_count == 0 && !wal->preparing && !wal->successor_to_wipe
                                              : wal->spare_count + 1 < wal->options.spare_segments;
    return short_of_files && wal->options.spare_segments > 0 && !wal->failed &&
           segment->size == wal->options.segment_bytes && !lw_segment_pinned_by_reader(segment);
}

static int add_spare(lw_wal *wal, uint64_t number)
{
    uint64_t *more = realloc(wal->spares, (wal->spare_count + 1) * sizeof *more);
    if (more == NULL)
        return LW_NO_MEMORY;
    wal->spares = more;
    wal->spares[wal->spare_count++] = number;
    return LW_OK;
}

/* The rename is durable before a byte of the file changes: else the name could come back with other bytes behind it. */
static void recycle(lw_wal *wal, uint64_t number)
{
    char from[LW_NAME_SIZE];
    char to[LW_NAME_SIZE];
    lw_segment_name(number, LW_SEGMENT_SUFFIX, from);
    lw_segment_name(number, LW_SPARE_SUFFIX, to);
    int failed = wal->fs->rename(wal->fs, from, to);
    if (failed) {
        (void)wal->fs->remove(wal->fs, from);
        return;
    }
    failed = LW_STEP(SYNC_DIR_RECYCLED) ? wal->fs->sync_dir(wal->fs) : 0;
    (void)pthread_mutex_lock(&wal->lock);
    if (failed) {
        wal->failed = true;
        wal->failed_errno = failed;
    }
    bool added = !failed && add_spare(wal, number) == LW_OK;
    (void)pthread_mutex_unlock(&wal->lock);
    if (!added && !failed)
        (void)wal->fs->remove(wal->fs, to);
}

/* Takes the oldest segment out of the log if it is useless. */
static lw_segment *take_useless(lw_wal *wal, bool *recycles)
{
    lw_segment *oldest = wal->segments[0];
    if (wal->segment_count < 2 || !is_useless(wal, oldest))
        return NULL;
    wal->segment_count--;
    memmove(wal->segments, wal->segments + 1, wal->segment_count * sizeof *wal->segments);
    *recycles = can_recycle(wal, oldest);
    return oldest;
}

/* Oldest first: a later open may find older files gone, never younger ones. Returns those whose files are gone but for their
 * blocks, which the last unpin gives back: that takes a while for a large file, and nobody has to wait for it. */
static lw_segment *remove_useless(lw_wal *wal)
{
    lw_segment *removed = NULL;
    for (;;) {
        char name[LW_NAME_SIZE];
        bool recycles = false;
        (void)pthread_mutex_lock(&wal->lock);
        lw_segment *segment = take_useless(wal, &recycles);
        (void)pthread_mutex_unlock(&wal->lock);
        if (segment == NULL)
            return removed;
        lw_segment_name_of(segment, name);
        if (recycles)
            recycle(wal, segment->identity.number);
        else
            (void)wal->fs->remove(wal->fs, name); /* a file that stays is a leftover; the next open tries again */
        segment->next_removed = removed;
        removed = segment;
    }
}

static void removal_pass(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->lock);
    uint64_t pass = wal->removal_wanted;
    bool wanted = pass > wal->removal_done;
    (void)pthread_mutex_unlock(&wal->lock);
    if (!wanted)
        return;
    lw_segment *removed = remove_useless(wal);
    (void)pthread_mutex_lock(&wal->lock);
    wal->removal_done = pass;
    lw_announce(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    while (removed != NULL) {
        lw_segment *segment = removed;
        removed = segment->next_removed;
        lw_segment_unpin(segment);
    }
    (void)pthread_mutex_lock(&wal->lock);
    wal->removal_freed = pass;
    wal->prepare_error.status = LW_OK; /* there may be space now */
    lw_announce(wal);
    (void)pthread_mutex_unlock(&wal->lock);
}

void lw_keeper_notice_durable(lw_wal *wal)
{
    if (wal->segment_count < 2 || !is_useless(wal, wal->segments[0]))
        return;
    wal->removal_wanted++;
    (void)pthread_cond_signal(&wal->keeper_work);
}

void lw_keeper_wait_removed(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->lock);
    uint64_t pass = wal->removal_wanted;
    while (wal->removal_done < pass && wal->threads_running && !wal->closed)
        (void)pthread_cond_wait(&wal->moved, &wal->lock);
    (void)pthread_mutex_unlock(&wal->lock);
}

/* ---- preparing ---- */

static bool look_around(void *argument)
{
    lw_wal *wal = argument;
    removal_pass(wal);
    (void)pthread_mutex_lock(&wal->lock);
    bool go_on = !wal->stopping;
    (void)pthread_mutex_unlock(&wal->lock);
    return go_on;
}

static int make_spare(lw_wal *wal, uint64_t number, lw_error *error)
{
    return lw_prepare_fill(wal->fs, number, wal->options.segment_bytes, look_around, wal, error);
}

/* Behind the newest header that is durable only one number may have a file, else a power cut that takes the tail's header
 * leaves two files without: that would be damage. */
static int name_successor(lw_wal *wal, uint64_t spare, uint64_t number, lw_error *error)
{
    int status = lw_sync_header(wal, error);
    return status == LW_OK ? lw_prepare_name(wal->fs, spare, number, error) : status;
}

/*
 * What an earlier roll left of a header, and the sectors of the next one that a power cut lets through, could together be the
 * earlier header, whole: with it the frames behind it would come back, or a footer be missed that was written over since.
 */
static int wipe_successor(lw_wal *wal, uint64_t number, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(number, LW_SEGMENT_SUFFIX, name);
    return LW_STEP(WIPE_SUCCESSOR) ? lw_prepare_wipe(wal->fs, name, error) : LW_OK;
}

/* `spare`: one that exists, or 0 to make one. */
static int make_successor(lw_wal *wal, uint64_t spare, uint64_t number, lw_error *error)
{
    char name[LW_NAME_SIZE];
    int status;
    if (spare != 0) {
        lw_segment_name(spare, LW_SPARE_SUFFIX, name);
        status = lw_prepare_wipe(wal->fs, name, error);
        if (status == LW_OK)
            return name_successor(wal, spare, number, error);
    }
    (void)pthread_mutex_lock(&wal->lock);
    spare = wal->next_spare++;
    (void)pthread_mutex_unlock(&wal->lock);
    status = make_spare(wal, spare, error);
    return status == LW_OK ? name_successor(wal, spare, number, error) : status;
}

/* With `lock` held, which is let go meanwhile. */
static void prepare(lw_wal *wal)
{
    lw_error error = {.status = LW_OK};
    bool for_successor = wal->successor == 0;
    bool wipes = for_successor && wal->successor_to_wipe;
    uint64_t number = wal->tail->identity.number + 1;
    uint64_t spare = for_successor && !wipes && wal->spare_count > 0 ? wal->spares[--wal->spare_count] : 0;
    uint64_t made = for_successor ? 0 : wal->next_spare++;
    wal->preparing = true;
    (void)pthread_mutex_unlock(&wal->lock);
    int status = wipes           ? wipe_successor(wal, number, &error)
                 : for_successor ? make_successor(wal, spare, number, &error)
                                 : make_spare(wal, made, &error);
    (void)pthread_mutex_lock(&wal->lock);
    wal->preparing = false;
    wal->prepare_error = error;
    if (for_successor) { /* a spare is none of a roll's tries */
        wal->successor_wanted = false;
        wal->prepare_tries++;
    }
    if (status == LW_SYNC_FAILED) {
        wal->failed = true;
        wal->failed_errno = error.sys_errno;
    } else if (status == LW_OK && for_successor) {
        wal->successor = number;
        wal->successor_to_wipe = false;
        if (!wipes)
            wal->successor_size = wal->options.segment_bytes;
    } else if (status == LW_OK) {
        (void)add_spare(wal, made); /* one that finds no memory is found again at the next open */
    }
    lw_announce(wal);
}

/* With `lock` held. Until there is one, or a try to make it has failed; a failure that was forgotten since, as a purge has freed
 * space, is none. */
static int wait_for_successor(lw_wal *wal, lw_error *error)
{
    uint64_t tries = wal->prepare_tries;
    for (;;) {
        int status = lw_check_usable(wal, error);
        if (status != LW_OK || wal->successor != 0)
            return status;
        if (wal->prepare_tries != tries && wal->prepare_error.status != LW_OK) {
            *error = wal->prepare_error;
            return error->status;
        }
        wal->successor_wanted = true;
        (void)pthread_cond_signal(&wal->keeper_work);
        (void)pthread_cond_wait(&wal->moved, &wal->lock);
    }
}

int lw_keeper_get_successor(lw_wal *wal, uint64_t size, uint64_t *number, lw_error *error)
{
    (void)pthread_mutex_lock(&wal->lock);
    int status = wait_for_successor(wal, error);
    uint64_t present = wal->successor_size;
    while (status == LW_OK && present < size && wal->removal_freed < wal->removal_done) /* soon there will be more space */
        (void)pthread_cond_wait(&wal->moved, &wal->lock);
    *number = wal->successor;
    (void)pthread_mutex_unlock(&wal->lock);
    if (status != LW_OK || present >= size)
        return status;
    char name[LW_NAME_SIZE];
    lw_segment_name(*number, LW_SEGMENT_SUFFIX, name);
    status = lw_prepare_extend(wal->fs, name, present, size, error);
    if (status == LW_OK)
        wal->successor_size = size;
    return status;
}

void lw_keeper_successor_taken(lw_wal *wal)
{
    wal->successor = 0;
    (void)pthread_cond_signal(&wal->keeper_work);
}

void lw_keeper_successor_torn(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->lock);
    wal->successor = 0;
    wal->successor_to_wipe = true;
    (void)pthread_mutex_unlock(&wal->lock);
}

int lw_keeper_adopt_spares(lw_wal *wal, const uint64_t *spares, size_t count, lw_error *error)
{
    wal->next_spare = FIRST_MADE_SPARE;
    for (size_t i = 0; i < count; i++) {
        char name[LW_NAME_SIZE];
        lw_file *file;
        uint64_t size = 0;
        lw_segment_name(spares[i], LW_SPARE_SUFFIX, name);
        if (spares[i] >= wal->next_spare)
            wal->next_spare = spares[i] + 1;
        if (wal->fs->open(wal->fs, name, 0, &file) == 0) {
            (void)wal->fs->size(wal->fs, file, &size);
            wal->fs->close(wal->fs, file);
        }
        bool useful = size == wal->options.segment_bytes && wal->spare_count < wal->options.spare_segments;
        if (!useful)
            (void)wal->fs->remove(wal->fs, name);
        else if (add_spare(wal, spares[i]) != LW_OK)
            return lw_fail_errno(error, ENOMEM, NULL, "open");
    }
    return LW_OK;
}

void *lw_keeper_main(void *argument)
{
    lw_wal *wal = argument;
    (void)pthread_mutex_lock(&wal->lock);
    while (!wal->stopping) {
        if (wal->removal_wanted > wal->removal_done) {
            (void)pthread_mutex_unlock(&wal->lock);
            removal_pass(wal);
            (void)pthread_mutex_lock(&wal->lock);
        } else if (lw_wants_successor(wal) || wants_spare(wal)) {
            prepare(wal);
        } else {
            (void)pthread_cond_wait(&wal->keeper_work, &wal->lock);
        }
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return NULL;
}
