/*
 * A child inherits the descriptor that holds the lock, and would keep the log locked after its parent has ended: it closes
 * its copies. The handles themselves it must not touch, since their threads and the state of their locks stayed behind.
 */
#include "lock.h"

#include <errno.h>

#include "error.h"

enum { MAX_LOCKS = 4096 };

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock_table_lock = PTHREAD_MUTEX_INITIALIZER;
static lw_wal *lock_table[MAX_LOCKS];
static unsigned fork_generation;

static void before_fork(void)
{
    (void)pthread_mutex_lock(&lock_table_lock);
}

static void after_fork_in_parent(void)
{
    (void)pthread_mutex_unlock(&lock_table_lock);
}

static void after_fork_in_child(void)
{
    fork_generation++;
    for (size_t i = 0; i < MAX_LOCKS; i++)
        if (lock_table[i] != NULL) {
            lock_table[i]->fs->close(lock_table[i]->fs, lock_table[i]->lock_file);
            lock_table[i] = NULL;
        }
    (void)pthread_mutex_unlock(&lock_table_lock);
}

static void watch_forks(void)
{
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* With lock_table_lock held. */
static int change_lock_table(const lw_wal *from, lw_wal *to)
{
    for (size_t i = 0; i < MAX_LOCKS; i++)
        if (lock_table[i] == from) {
            lock_table[i] = to;
            return 0;
        }
    return EMFILE;
}

void lw_lock_note_process(lw_wal *wal)
{
    (void)pthread_once(&fork_once, watch_forks); /* for readers, too: a child does not inherit their mappings */
    wal->fork_generation = fork_generation;
}

bool lw_forked(const lw_wal *wal)
{
    return wal->fork_generation != fork_generation;
}

int lw_fail_forked(lw_error *error)
{
    return lw_fail(error, LW_CLOSED, "the log was opened before fork, in the parent; open it anew in this process");
}

static int find_segment(void *argument, const char *name)
{
    uint64_t number;
    (void)argument;
    return lw_segment_name_parse(name, LW_SEGMENT_SUFFIX, &number) ? EEXIST : 0;
}

/* LOCK may be made where there is a log, too: people remove files of that name. */
static bool may_make_lock(lw_wal *wal)
{
    return wal->options.create || wal->fs->list(wal->fs, find_segment, NULL) == EEXIST;
}

static int open_and_lock(lw_wal *wal)
{
    int flags = LW_OPEN_WRITE | (may_make_lock(wal) ? LW_OPEN_CREATE : 0);
    int failed = wal->fs->open(wal->fs, LW_LOCK_NAME, flags, &wal->lock_file);
    if (failed)
        return failed;
    failed = wal->fs->lock(wal->fs, wal->lock_file);
    if (!failed)
        failed = change_lock_table(NULL, wal);
    if (!failed)
        return 0;
    wal->fs->close(wal->fs, wal->lock_file);
    wal->lock_file = NULL;
    return failed;
}

int lw_lock_take(lw_wal *wal, lw_error *error)
{
    (void)pthread_mutex_lock(&lock_table_lock); /* no fork between the lock and its place in the table */
    int failed = open_and_lock(wal);
    (void)pthread_mutex_unlock(&lock_table_lock);
    if (!failed)
        return LW_OK;
    if (failed == ENOENT)
        return lw_fail_errno(error, failed, LW_LOCK_NAME, "there is no log here");
    if (failed != EWOULDBLOCK)
        return lw_fail_errno(error, failed, LW_LOCK_NAME, "cannot lock the log");
    (void)lw_fail_errno(error, failed, LW_LOCK_NAME, "another writer has the log open; read_only=True works beside it");
    return error->status = LW_LOCKED;
}

void lw_lock_release(lw_wal *wal)
{
    if (wal->lock_file == NULL)
        return;
    (void)pthread_mutex_lock(&lock_table_lock);
    (void)change_lock_table(wal, NULL);
    (void)pthread_mutex_unlock(&lock_table_lock);
    wal->fs->close(wal->fs, wal->lock_file);
    wal->lock_file = NULL;
}
