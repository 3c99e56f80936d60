/*
 * The seam: every file operation of the log goes through this table. fs_posix.c is the one that ships; tests put a double
 * in its place that loses, tears, reorders and fails.
 *
 * Rules for all operations:
 *  1. A result is 0 or an errno value (positive). Nothing else is returned, and nothing is printed.
 *  2. An lw_fs is one open directory; names are relative to it and contain no slash.
 *  3. Any thread may call; the caller sees to it that one file is not closed while another thread uses it.
 *  4. read and write are whole or fail. A read past the end of the file fails with ENODATA.
 *  5. The core changes a mapping only by lw_fs_store and lw_fs_zero, and touches one only inside lw_guarded.
 *  6. No descriptor is below 3: where 0, 1 or 2 is closed, what the program prints must not get into a file of the log.
 *  7. sync covers all that write, lw_fs_store and lw_fs_zero did to the file before, allocation and size included. What was
 *     reserved and not written since need not survive a power cut.
 *     After it failed once nothing may be believed of what it covered.
 */
#ifndef LW_FS_H
#define LW_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct lw_fs lw_fs;
typedef struct lw_file lw_file;

enum lw_open_flags {
    LW_OPEN_WRITE = 1,  /* else for reading only */
    LW_OPEN_CREATE = 2, /* made where it is missing, for its owner alone; opened where not */
    LW_OPEN_REUSE = 4,  /* gets other content: others than its owner lose what rights they have, where the system lets us */
    LW_OPEN_FILLED = 8, /* all its blocks were written, not only reserved: spares each sync a look at the file system */
};

/* Called once a name; a result other than 0 ends the listing and becomes its result. */
typedef int lw_list_visitor(void *argument, const char *name);

struct lw_fs {
    int (*open)(lw_fs *, const char *name, int flags, lw_file **out);
    void (*close)(lw_fs *, lw_file *);
    int (*size)(lw_fs *, lw_file *, uint64_t *size);
    /* Reserves blocks for [offset, offset + size) and fills them with zeros, so that a later sync of stores writes no
     * metadata; the file grows where it is shorter. On failure it should be as long as before, and may be longer. */
    int (*allocate)(lw_fs *, lw_file *, uint64_t offset, uint64_t size);
    /* Reserves blocks for [offset, offset + size) and writes no byte: what had none reads as zeros. 0: all are there, so no
     * write into them lacks space; the file grows where it is shorter. EOPNOTSUPP where the system cannot: then nothing was
     * done. On failure a part may have been reserved. */
    int (*reserve)(lw_fs *, lw_file *, uint64_t offset, uint64_t size);
    int (*map)(lw_fs *, lw_file *, uint64_t size, bool writable, uint8_t **base);
    void (*unmap)(lw_fs *, uint8_t *base, uint64_t size);
    /* A hint: [0, size) is about to be read in order, once. */
    void (*will_read)(lw_fs *, lw_file *, uint64_t size);
    int (*read)(lw_fs *, lw_file *, uint64_t offset, void *to, size_t size);
    int (*write)(lw_fs *, lw_file *, uint64_t offset, const void *from, size_t size);
    int (*sync)(lw_fs *, lw_file *);
    int (*sync_dir)(lw_fs *);
    /* ESTALE where another directory stands at the path that was opened, or this one was removed. 0 also where nothing stands
     * there, since it was moved, or it may not be looked at. */
    int (*check_place)(lw_fs *);
    int (*rename)(lw_fs *, const char *from, const char *to); /* replaces nothing: EEXIST */
    int (*remove)(lw_fs *, const char *name);
    int (*list)(lw_fs *, lw_list_visitor *, void *argument);
    /* Locks, exclusive, at once: EWOULDBLOCK where another has it. What was locked is unlocked before it is closed: a program
     * that another thread starts at this moment has a copy of the descriptor, and with it of the lock, until it execs. */
    int (*lock)(lw_fs *, lw_file *);
    void (*unlock)(lw_fs *, lw_file *);
    int (*lock_dir)(lw_fs *); /* EOPNOTSUPP where directories cannot be locked */
    void (*unlock_dir)(lw_fs *);
    /* In a forked child: closes its copies of the directory and of `lock_file`, and unlocks nothing, since the locks are the
     * parent's. Calls only what a fork's child may. Nothing else may be done with either afterwards. */
    void (*abandon)(lw_fs *, lw_file *lock_file);
    int (*random)(lw_fs *, void *to, size_t size);
    void (*destroy)(lw_fs *);
};

/* The directory at `path`, made first (and its name synced) where `create` and it is missing. A status, and the error. */
struct lw_error;
int lw_fs_posix(const char *path, bool create, lw_fs **out, struct lw_error *);

/* A page of this process, full of zeros now and in each child that has memory of its own, whoever made it (pthread_atfork has
 * no handlers run by clone(2)). NULL where the system has no such thing. */
void *lw_fork_page(void);

/*
 * Runs body(argument), which may touch mappings. Returns 0, or EIO where a touch failed because the file is shorter than
 * its mapping, its device failed, or a store found no space: body was then left at that touch. It must hold no lock and
 * no resource that argument does not know of. Cheap: some nanoseconds.
 */
int lw_guarded(void (*body)(void *argument), void *argument);
/* Makes lw_guarded work, and again after somebody else has taken SIGBUS over. Called at every open. */
void lw_guard_install(void);

#ifdef LW_FS_DOUBLE
void lw_fs_store(uint8_t *to, const void *from, size_t size);
void lw_fs_zero(uint8_t *to, size_t size);
#else
static inline void lw_fs_store(uint8_t *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

static inline void lw_fs_zero(uint8_t *to, size_t size)
{
    memset(to, 0, size);
}
#endif

#endif
