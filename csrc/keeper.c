#include "keeper.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "prepare.h"
#include "step.h"
#include "syncer.h"

enum {
    PREPARE_WHEN_FULL = 8, /* an eighth: not at once, so that a purge can give its file */
    REMOVALS_A_PAUSE = 16, /* between two steps of filling */
};

/* Names of files made here never meet those of segments that become spares. */
#define FIRST_MADE_SPARE ((uint64_t)1 << 63)

/* ---- what is wanted ---- */

bool lw_waits_for_successor(const lw_wal *wal)
{
    return wal->rotation_bytes > 0 && wal->rotation_error.status == LW_OK && !wal->failed && !wal->closed &&
           (wal->successor == NULL || wal->successor->size < wal->rotation_bytes);
}

bool lw_wants_successor(const lw_wal *wal)
{
    if (wal->preparing || wal->failed || wal->tail == NULL)
        return false;
    if (lw_waits_for_successor(wal))
        return true;
    return wal->successor == NULL && wal->options.spare_segments > 0 && wal->prepare_error.status == LW_OK &&
           wal->tail->end >= wal->tail->size / PREPARE_WHEN_FULL;
}

static bool wants_spare(const lw_wal *wal)
{
    return wal->successor != NULL && !wal->failed && wal->prepare_error.status == LW_OK &&
           wal->spare_count + 1 < wal->options.spare_segments;
}

uint64_t lw_oldest_needed(const lw_wal *wal)
{
    if (wal->index.count > 0)
        return lw_index_runs(&wal->index)->segment->identity.number;
    return wal->tail->identity.number + (LW_STEP(HEADER_BEFORE_UNLINK) ? 0 : 1);
}

/* The oldest segment is useless when what is durable needs only younger ones: the purge or cut that hid its last entry is
 * durable, and so is a younger header, in which its state lives on. */
static bool oldest_is_useless(const lw_wal *wal)
{
    if (wal->segments.count < 2)
        return false;
    uint64_t needed = LW_STEP(BOUNDARY_BEFORE_UNLINK) ? wal->durable_oldest : lw_oldest_needed(wal);
    return lw_segment_list_items(&wal->segments)[0]->identity.number < needed;
}

static bool can_recycle(const lw_wal *wal, const lw_segment *segment)
{
    bool short_of_files = wal->successor == NULL ? wal->spare_count == 0 && !wal->preparing && !wal->successor_to_wipe
                                                 : wal->spare_count + 1 < wal->options.spare_segments;
    return short_of_files && wal->options.spare_segments > 0 && !wal->failed &&
           segment->size == wal->options.segment_bytes && !lw_segment_pinned_by_reader(segment);
}

/* ---- removing and recycling ---- */

static int add_spare(lw_wal *wal, uint64_t number)
{
    uint64_t *more = realloc(wal->spares, (wal->spare_count + 1) * sizeof *more);
    if (more == NULL)
        return LW_NO_MEMORY;
    wal->spares = more;
    wal->spares[wal->spare_count++] = number;
    return LW_OK;
}

/* A file that stays is a leftover; the next open tries again. */
static void remove_file(lw_wal *wal, const char *name)
{
    int failed = wal->fs->remove(wal->fs, name);
    if (!failed || failed == ENOENT)
        return;
    (void)pthread_mutex_lock(&wal->lock);
    wal->stats.removal_failures++;
    wal->stats.removal_errno = failed;
    (void)pthread_mutex_unlock(&wal->lock);
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
        remove_file(wal, from);
        return;
    }
    failed = LW_STEP(SYNC_DIR_RECYCLED) ? wal->fs->sync_dir(wal->fs) : 0;
    (void)pthread_mutex_lock(&wal->lock);
    if (failed)
        lw_fail_log(wal, failed, 0);
    bool added = !failed && add_spare(wal, number) == LW_OK;
    (void)pthread_mutex_unlock(&wal->lock);
    if (!added && !failed)
        remove_file(wal, to);
}

/* Takes the oldest segment out of the log, and removes its name, if it is useless: oldest first, since a later open may find
 * older files gone, never younger ones. Its blocks are still taken. */
static bool remove_oldest(lw_wal *wal)
{
    char name[LW_NAME_SIZE];
    bool recycles = false;
    lw_segment *segment = NULL;
    (void)pthread_mutex_lock(&wal->lock);
    if (oldest_is_useless(wal)) {
        segment = lw_segment_list_take_oldest(&wal->segments);
        recycles = can_recycle(wal, segment);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    if (segment == NULL)
        return false;
    lw_segment_name_of(segment, name);
    if (recycles)
        recycle(wal, segment->identity.number);
    else
        remove_file(wal, name);
    segment->next_obsolete = wal->obsolete;
    wal->obsolete = segment;
    (void)pthread_mutex_lock(&wal->lock);
    wal->removed_below = segment->identity.number + 1;
    (void)pthread_cond_broadcast(&wal->moved);
    (void)pthread_mutex_unlock(&wal->lock);
    return true;
}

/* Gives back a part of the memory and of the blocks of what was removed. A reader that is at work in it does the rest. */
static bool free_step(lw_wal *wal)
{
    lw_segment *segment = wal->obsolete;
    if (segment == NULL)
        return false;
    if (!lw_segment_pinned_by_reader(segment) && lw_segment_unmap_step(segment))
        return true;
    wal->obsolete = segment->next_obsolete;
    lw_segment_unpin(segment);
    if (wal->obsolete != NULL)
        return true;
    (void)pthread_mutex_lock(&wal->lock);
    wal->prepare_error.status = wal->rotation_error.status = LW_OK; /* there may be space now */
    (void)pthread_mutex_unlock(&wal->lock);
    return true;
}

/* All that a purge has made useless. False where that is nothing. */
static bool free_all(lw_wal *wal)
{
    bool any = false;
    while (remove_oldest(wal) || free_step(wal))
        any = true;
    return any;
}

void lw_keeper_release(lw_wal *wal)
{
    while (free_step(wal))
        ;
}

void lw_keeper_notice_durable(lw_wal *wal)
{
    if (oldest_is_useless(wal))
        (void)pthread_cond_signal(&wal->keeper_work);
}

int lw_keeper_wait_removed(lw_wal *wal, uint64_t deadline_ns, lw_error *error)
{
    int status = LW_OK;
    (void)pthread_mutex_lock(&wal->lock);
    uint64_t needed = wal->durable_oldest;
    while (wal->removed_below < needed && wal->threads_running && !wal->closed) {
        if (deadline_ns != 0 && lw_now_ns() >= deadline_ns) {
            status = lw_fail(error, LW_TIMED_OUT, "the files were not removed within the time given");
            break;
        }
        lw_cond_wait_until(&wal->moved, &wal->lock, deadline_ns);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

/* ---- making files ---- */

void lw_keeper_successor_taken(lw_wal *wal)
{
    wal->successor = NULL;
    wal->tail_began_ns = lw_now_ns();
    (void)pthread_cond_signal(&wal->keeper_work);
}

/* Called between the steps of filling a file. */
static lw_pace look_around(void *argument)
{
    lw_wal *wal = argument;
    for (int i = 0; i < REMOVALS_A_PAUSE; i++)
        if (!remove_oldest(wal) && !free_step(wal))
            break;
    (void)pthread_mutex_lock(&wal->lock);
    lw_pace pace = wal->stopping ? LW_STOP : lw_waits_for_successor(wal) ? LW_HURRY : LW_FILL;
    (void)pthread_mutex_unlock(&wal->lock);
    return pace;
}

/* With `lock` held: in how long the tail will be full, as fast as it was filled so far. */
static uint64_t tail_lasts_ns(const lw_wal *wal)
{
    uint64_t used = wal->tail->end / LW_PAGE_SIZE;
    uint64_t left = wal->tail->size / LW_PAGE_SIZE - used;
    return (lw_now_ns() - wal->tail_began_ns) / used * left;
}

/* With `lock` held: where the tail is filled faster than a file, a file that is allocated and not filled. */
static lw_pace choose_pace(const lw_wal *wal)
{
    return lw_waits_for_successor(wal) || tail_lasts_ns(wal) / 2 < wal->fill_ns ? LW_HURRY : LW_FILL;
}

/* The number is not that of any spare. */
static uint64_t number_for_spare(const lw_wal *wal)
{
    uint64_t number = FIRST_MADE_SPARE;
    for (size_t i = 0; i < wal->spare_count;) {
        bool taken = wal->spares[i++] == number;
        if (taken) {
            number++;
            i = 0;
        }
    }
    return number;
}

static int make_spare(lw_wal *wal, uint64_t number, lw_pace pace, bool *is_filled, lw_error *error)
{
    lw_making making = {.size = wal->options.segment_bytes, .pace = pace, .pause = look_around, .argument = wal};
    uint64_t began_ns = lw_now_ns();
    int status = lw_prepare_make(wal->fs, number, &making, error);
    if (status == LW_DISK_FULL && free_all(wal))
        status = lw_prepare_make(wal->fs, number, &making, error);
    *is_filled = making.filled == making.size;
    if (status == LW_OK && making.filled > 0) {
        (void)pthread_mutex_lock(&wal->lock);
        wal->fill_ns = (lw_now_ns() - began_ns) / (making.filled / LW_PAGE_SIZE) * (making.size / LW_PAGE_SIZE);
        (void)pthread_mutex_unlock(&wal->lock);
    }
    return status;
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

/* What one preparation is about, taken under `lock`. */
typedef struct preparation {
    bool wipes;     /* the file has its name, and may hold a part of a header */
    uint64_t number; /* of the successor */
    uint64_t spare;  /* to use, or 0 to make one */
    uint64_t made;   /* its number then */
    uint64_t size;   /* that the successor needs */
    lw_pace pace;
    bool is_filled;  /* out: all its blocks were written here */
    lw_segment *successor;
} preparation;

static int make_and_name(lw_wal *wal, preparation *p, lw_error *error)
{
    char name[LW_NAME_SIZE];
    if (p->spare != 0) {
        lw_segment_name(p->spare, LW_SPARE_SUFFIX, name);
        if (lw_prepare_wipe(wal->fs, name, error) == LW_OK)
            return name_successor(wal, p->spare, p->number, error);
        (void)wal->fs->remove(wal->fs, name); /* a new one may need its blocks */
    }
    int status = make_spare(wal, p->made, p->pace, &p->is_filled, error);
    return status == LW_OK ? name_successor(wal, p->made, p->number, error) : status;
}

static int map_successor(lw_wal *wal, uint64_t number, uint64_t size, bool is_filled, lw_segment **out, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_file *file;
    lw_identity identity = {.number = number};
    memcpy(identity.log_id, wal->log_id, LW_LOG_ID_SIZE);
    lw_segment_name(number, LW_SEGMENT_SUFFIX, name);
    int failed = wal->fs->random(wal->fs, &identity.nonce, sizeof identity.nonce);
    if (!failed)
        failed = wal->fs->open(wal->fs, name, LW_OPEN_WRITE | (is_filled ? LW_OPEN_FILLED : 0), &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot open the next segment");
    int status = lw_segment_map(wal->fs, file, name, size, true, out, error);
    if (status == LW_OK)
        lw_segment_set_identity(*out, &identity);
    return status;
}

int lw_keeper_map_successor(lw_wal *wal, uint64_t number, uint64_t size, bool is_filled, lw_error *error)
{
    return map_successor(wal, number, size, is_filled, &wal->successor, error);
}

/* The bytes of a file that has its name already, rounded down to pages. What is beyond `most` may be what a full disk left. */
static int size_of_successor(lw_wal *wal, uint64_t number, uint64_t most, uint64_t *size, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_file *file;
    lw_segment_name(number, LW_SEGMENT_SUFFIX, name);
    int failed = wal->fs->open(wal->fs, name, 0, &file);
    if (!failed) {
        failed = wal->fs->size(wal->fs, file, size);
        wal->fs->close(wal->fs, file);
    }
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot open the file");
    *size = (*size < most ? *size : most) / LW_PAGE_SIZE * LW_PAGE_SIZE;
    return LW_OK;
}

/* Has the successor made longer. In one: where there is no space, nothing is taken. */
static int extend_successor(lw_wal *wal, uint64_t number, uint64_t present, uint64_t size, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(number, LW_SEGMENT_SUFFIX, name);
    int status = lw_prepare_extend(wal->fs, name, present, size, error);
    if (status == LW_DISK_FULL && free_all(wal))
        status = lw_prepare_extend(wal->fs, name, present, size, error);
    return status;
}

/* Of a successor that is too short for the batch that waits. It is the keeper's own meanwhile, and stays as it was where there is
 * no space. */
static int lengthen(lw_wal *wal, lw_segment **successor, uint64_t size, lw_error *error)
{
    lw_segment *shorter = *successor;
    uint64_t number = shorter->identity.number;
    lw_segment *longer;
    int status = extend_successor(wal, number, shorter->size, size, error);
    if (status == LW_OK)
        status = map_successor(wal, number, size, false, &longer, error);
    if (status != LW_OK)
        return status;
    *successor = longer;
    lw_segment_unpin(shorter);
    return LW_OK;
}

static preparation take_preparation(lw_wal *wal)
{
    preparation p = {.number = wal->tail->identity.number + 1, .successor = wal->successor};
    p.wipes = p.successor == NULL && wal->successor_to_wipe;
    p.spare = p.successor == NULL && !p.wipes && wal->spare_count > 0 ? wal->spares[--wal->spare_count] : 0;
    p.made = number_for_spare(wal);
    p.size = lw_waits_for_successor(wal) ? wal->rotation_bytes : wal->options.segment_bytes;
    p.pace = choose_pace(wal);
    wal->successor = NULL;
    return p;
}

/* Makes what is missing, step by step: a file with its name, its mapping, its length. *named: from now on it has its name. */
static int make_successor(lw_wal *wal, preparation *p, bool *named, lw_error *error)
{
    uint64_t present = wal->options.segment_bytes;
    int status = LW_OK;
    *named = p->wipes || p->successor != NULL;
    if (p->wipes) {
        status = wipe_successor(wal, p->number, error);
        if (status == LW_OK)
            status = size_of_successor(wal, p->number, wal->options.segment_bytes, &present, error);
    } else if (p->successor == NULL) {
        status = make_and_name(wal, p, error);
        *named = status == LW_OK;
    }
    /* What was found at open may be of another size. */
    if (status == LW_OK && p->successor == NULL && present < p->size && present < wal->options.segment_bytes) {
        status = extend_successor(wal, p->number, present, p->size, error);
        present = p->size;
    }
    if (status == LW_OK && p->successor == NULL)
        status = map_successor(wal, p->number, present, p->is_filled, &p->successor, error);
    if (status == LW_OK && p->successor->size < p->size)
        status = lengthen(wal, &p->successor, p->size, error);
    return status;
}

/* With `lock` held, which is let go meanwhile. */
static void prepare_successor(lw_wal *wal)
{
    lw_error error = {.status = LW_OK};
    bool named;
    preparation p = take_preparation(wal);
    wal->preparing = true;
    (void)pthread_mutex_unlock(&wal->lock);
    int status = make_successor(wal, &p, &named, &error);
    (void)pthread_mutex_lock(&wal->lock);
    wal->preparing = false;
    wal->prepare_error = error;
    wal->successor = p.successor; /* perhaps too short, and then there is an error */
    wal->successor_to_wipe = named && p.successor == NULL;
    if (status == LW_SYNC_FAILED)
        lw_fail_log(wal, error.sys_errno, 0);
    if (status != LW_OK && wal->rotation_bytes > 0)
        wal->rotation_error = error;
    (void)pthread_cond_signal(&wal->syncer_work); /* the queue may go on */
    lw_announce(wal);
}

/* With `lock` held, which is let go meanwhile. */
static void prepare_spare(lw_wal *wal)
{
    lw_error error = {.status = LW_OK};
    bool ignored;
    uint64_t number = number_for_spare(wal);
    wal->preparing = true;
    (void)pthread_mutex_unlock(&wal->lock);
    int status = make_spare(wal, number, LW_FILL, &ignored, &error);
    (void)pthread_mutex_lock(&wal->lock);
    wal->preparing = false;
    wal->prepare_error = error;
    if (status == LW_OK)
        (void)add_spare(wal, number); /* one that finds no memory is found again at the next open */
}

void lw_keeper_successor_torn(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->lock);
    lw_segment *torn = wal->successor;
    wal->successor = NULL;
    wal->successor_to_wipe = true;
    (void)pthread_mutex_unlock(&wal->lock);
    lw_segment_unpin(torn);
}

int lw_keeper_adopt_spares(lw_wal *wal, const uint64_t *spares, size_t count, lw_error *error)
{
    for (size_t i = 0; i < count; i++) {
        char name[LW_NAME_SIZE];
        lw_file *file;
        uint64_t size = 0;
        lw_segment_name(spares[i], LW_SPARE_SUFFIX, name);
        if (wal->fs->open(wal->fs, name, 0, &file) == 0) {
            (void)wal->fs->size(wal->fs, file, &size);
            wal->fs->close(wal->fs, file);
        }
        bool useful = size == wal->options.segment_bytes && wal->spare_count < wal->options.spare_segments;
        if (!useful)
            remove_file(wal, name);
        else if (add_spare(wal, spares[i]) != LW_OK)
            return lw_fail_errno(error, ENOMEM, NULL, "open");
    }
    return LW_OK;
}

/* ---- the thread ---- */

/* With `lock` held, which is let go meanwhile. The most urgent first: a file that a write waits for; then names, which a purge
 * waits for and which may give a file; then files to have in hand. False where there is nothing to do. */
static bool take_step(lw_wal *wal)
{
    bool removes = oldest_is_useless(wal);
    bool gives_file = removes && can_recycle(wal, lw_segment_list_items(&wal->segments)[0]);
    if (lw_wants_successor(wal) && !gives_file) {
        prepare_successor(wal);
        return true;
    }
    bool frees = wal->obsolete != NULL;
    if (removes || frees) {
        (void)pthread_mutex_unlock(&wal->lock);
        bool removed = removes ? remove_oldest(wal) : free_step(wal);
        (void)pthread_mutex_lock(&wal->lock);
        return removed;
    }
    if (!wants_spare(wal))
        return false;
    prepare_spare(wal);
    return true;
}

void *lw_keeper_main(void *argument)
{
    lw_wal *wal = argument;
    (void)pthread_mutex_lock(&wal->lock);
    while (!wal->stopping)
        if (!take_step(wal))
            (void)pthread_cond_wait(&wal->keeper_work, &wal->lock);
    (void)pthread_mutex_unlock(&wal->lock);
    return NULL;
}
