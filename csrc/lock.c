/*
 * One writer a log: flock on the log's directory, then on LOCK, both until close. The directory that is held stays the same
 * whatever becomes of the name LOCK, which people and clean-up scripts remove; LOCK is what earlier versions lock, and all
 * there is where directories cannot be locked.
 *
 * A child inherits the descriptors that hold the locks, and would keep the log locked after its parent has ended: it closes
 * its copies. The handles themselves it must not touch, since their threads and the state of their locks stayed behind. A
 * process is never told from another by its number: a child in a new PID namespace may have its parent's.
 */
#include "lock.h"

#include <errno.h>
#include <sched.h>

#include "error.h"
#include "step.h"

/* What stands at the beginning of the fork page, which the system wipes in a child. */
enum { WIPED, LEAVING, MARKED };

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static uint32_t always_marked = MARKED;
static uint32_t *fork_mark = &always_marked; /* where there is no such page, handlers alone have to do */
static unsigned fork_generation;

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* of locked_logs; held across a fork */
static lw_wal *locked_logs;

/* ---- forks ---- */

/* In a child. Its parent's handles are closed from here on. */
static void leave_parent(void)
{
    (void)__atomic_add_fetch(&fork_generation, 1, __ATOMIC_RELAXED);
    for (lw_wal *wal = locked_logs; wal != NULL; wal = wal->next_locked)
        wal->fs->abandon(wal->fs, wal->lock_file);
    locked_logs = NULL;
    __atomic_store_n(fork_mark, MARKED, __ATOMIC_RELEASE);
}

/* In a child for which no handler was run, as clone(2) makes one, whoever comes here first does what the handler does. */
static void notice_clone(void)
{
    uint32_t found = WIPED;
    if (__atomic_compare_exchange_n(fork_mark, &found, LEAVING, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
        (void)pthread_mutex_init(&list_lock, NULL); /* a thread that stayed behind may have held it */
        leave_parent();
    }
    while (__atomic_load_n(fork_mark, __ATOMIC_ACQUIRE) != MARKED)
        (void)sched_yield();
}

static void before_fork(void)
{
    notice_clone();
    (void)pthread_mutex_lock(&list_lock);
}

static void after_fork_in_parent(void)
{
    (void)pthread_mutex_unlock(&list_lock);
}

static void after_fork_in_child(void)
{
    leave_parent();
    (void)pthread_mutex_unlock(&list_lock);
}

static void watch_forks(void)
{
    uint32_t *page = lw_fork_page();
    if (page != NULL) {
        *page = MARKED;
        fork_mark = page;
    }
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

unsigned lw_lock_process(void)
{
    (void)pthread_once(&fork_once, watch_forks); /* for readers, too: a child does not inherit their mappings */
    notice_clone();
    return __atomic_load_n(&fork_generation, __ATOMIC_RELAXED);
}

bool lw_lock_process_is(unsigned named)
{
    return named == __atomic_load_n(&fork_generation, __ATOMIC_RELAXED) &&
           __atomic_load_n(fork_mark, __ATOMIC_ACQUIRE) == MARKED;
}

void lw_lock_note_process(lw_wal *wal)
{
    wal->fork_generation = lw_lock_process();
}

bool lw_forked(const lw_wal *wal)
{
    return !lw_lock_process_is(wal->fork_generation);
}

int lw_fail_forked(lw_error *error)
{
    return lw_fail(error, LW_CLOSED, "the log was opened before fork, in the parent; open it anew in this process");
}

/* ---- the locks ---- */

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

static int lock_directory(lw_wal *wal)
{
    int failed = LW_STEP(LOCK_DIR) ? wal->fs->lock_dir(wal->fs) : EOPNOTSUPP;
    wal->dir_is_locked = !failed;
    return failed == EOPNOTSUPP ? 0 : failed; /* then LOCK has to do */
}

static int lock_file(lw_wal *wal)
{
    int flags = LW_OPEN_WRITE | (may_make_lock(wal) ? LW_OPEN_CREATE : 0);
    int failed = wal->fs->open(wal->fs, LW_LOCK_NAME, flags, &wal->lock_file);
    return failed || !LW_STEP(LOCK_FILE) ? failed : wal->fs->lock(wal->fs, wal->lock_file);
}

/* With list_lock held. */
static void add_to_list(lw_wal *wal)
{
    wal->next_locked = locked_logs;
    wal->locked_from = &locked_logs;
    if (locked_logs != NULL)
        locked_logs->locked_from = &wal->next_locked;
    locked_logs = wal;
}

static void drop_from_list(lw_wal *wal)
{
    *wal->locked_from = wal->next_locked;
    if (wal->next_locked != NULL)
        wal->next_locked->locked_from = wal->locked_from;
}

static int fail_dir(int failed, lw_error *error)
{
    if (failed != EWOULDBLOCK)
        return lw_fail_errno(error, failed, NULL, "cannot lock the log");
    return lw_fail_system(error, LW_LOCKED, failed, NULL,
                          "another writer has the log's directory locked (read_only=True works beside it); a supervisor's "
                          "flock(1) on the log's own directory has to use another file");
}

static int fail_file(int failed, lw_error *error)
{
    if (failed == ENOENT)
        return lw_fail_system(error, LW_LOG_NOT_FOUND, failed, LW_LOCK_NAME, "there is no log here");
    if (failed != EWOULDBLOCK)
        return lw_fail_errno(error, failed, LW_LOCK_NAME, "cannot lock the log");
    return lw_fail_system(error, LW_LOCKED, failed, LW_LOCK_NAME,
                          "another writer has LOCK locked; read_only=True works beside it");
}

/* With list_lock held. */
static int take_both(lw_wal *wal, lw_error *error)
{
    int failed = lock_directory(wal);
    if (failed)
        return fail_dir(failed, error);
    failed = lock_file(wal);
    if (!failed) {
        add_to_list(wal);
        return LW_OK;
    }
    if (wal->lock_file != NULL)
        wal->fs->close(wal->fs, wal->lock_file);
    wal->lock_file = NULL;
    if (wal->dir_is_locked)
        wal->fs->unlock_dir(wal->fs);
    return fail_file(failed, error);
}

int lw_lock_take(lw_wal *wal, lw_error *error)
{
    (void)pthread_mutex_lock(&list_lock); /* no fork between a lock and its place in the list */
    int status = take_both(wal, error);
    (void)pthread_mutex_unlock(&list_lock);
    return status;
}

void lw_lock_release(lw_wal *wal)
{
    if (wal->lock_file == NULL)
        return;
    /* The directory last: whoever opens the log meets it first, and finds LOCK free behind it. */
    if (LW_STEP(UNLOCK_FILE))
        wal->fs->unlock(wal->fs, wal->lock_file);
    if (wal->dir_is_locked && LW_STEP(UNLOCK_DIR))
        wal->fs->unlock_dir(wal->fs);
    (void)pthread_mutex_lock(&list_lock);
    drop_from_list(wal);
    (void)pthread_mutex_unlock(&list_lock);
    wal->fs->close(wal->fs, wal->lock_file);
    wal->lock_file = NULL;
}
