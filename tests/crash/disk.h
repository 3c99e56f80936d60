/*
 * The double behind csrc/fs.h: one directory on a disk that keeps what is live (what programs see, the page cache) apart
 * from what is durable, and at a power cut lets survive whatever a real disk and its journal could.
 *
 *  - A file's unit is the sector of 512 bytes. One that was stored to since its last sync may be found as it was, as it is
 *    now, as it was at any moment it was written back early, torn between old and new, or garbled in the bytes that the
 *    stores to it were changing. Bytes that are stored again as they were stay as they were.
 *  - Sizes and names are the journal's: each file's survive up to any point, files independent of each other, or all up to
 *    one point. A rename belongs to the file, not to the name.
 *  - A page of zeros may be a hole, which takes space where it is stored to or reserved: then space is what a disk has left.
 *    What was reserved and not stored to since may be a hole again after a power cut.
 *  - A sync covers what was stored before it began. One that fails leaves any part written, and the rest counts as clean:
 *    either still in the cache but on no disk, or gone from both.
 */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include "fs.h"

enum { DISK_SECTOR = 512, DISK_NAME = 24 };

typedef enum disk_survival {
    DISK_NOTHING,    /* of what no sync covered */
    DISK_EVERYTHING,
    DISK_HALF,       /* each sector and each name by chance */
    DISK_MOST,
    DISK_FEW,
    DISK_LATER,      /* what stands further back in its file is there, the first sectors are not */
    DISK_NAMES_ONLY, /* names and sizes, no bytes */
    DISK_BYTES_ONLY, /* bytes, no names and sizes */
    DISK_TORN,       /* by chance, and torn or garbled */
    DISK_SURVIVALS
} disk_survival;

typedef enum disk_operation {
    DISK_OPEN = 1, DISK_ALLOCATE = 2, DISK_MAP = 4, DISK_READ = 8, DISK_WRITE = 16, DISK_SYNC = 32, DISK_SYNC_DIR = 64,
    DISK_RENAME = 128, DISK_REMOVE = 256, DISK_LIST = 512, DISK_RESERVE = 2048,
    DISK_STORE = 1024 /* into a mapping: where the system would raise SIGBUS */
} disk_operation;

void disk_clear(void);             /* an empty directory */
lw_fs *disk_open(void);            /* a program's view of it */
void disk_kill(void);              /* programs are gone, the cache stays */
void disk_power_cut(disk_survival);
void disk_power_cut_but(unsigned last); /* names and sizes survive, and the last so many dirty sectors of each file */

/* The nth operation of these kinds from now on fails with this errno value, once. 0: none. */
void disk_fail(unsigned operations, unsigned nth, int error);
/* And then, with this chance in percent, once more a few operations later, and so on. */
void disk_fail_again(unsigned percent);
/* True after a sync of what the log relies on was made to fail, until the next kill or power cut. */
bool disk_sync_failed(void);
bool disk_sync_runs(void); /* some thread is in one */
bool disk_failed(void); /* any operation, likewise */
/* How often, in percent of operations, something is written back unasked. */
void disk_eager(unsigned percent);
/* Writes a line for each operation to stdout. */
void disk_trace(bool);

/* A copy that leaves out zeros: all whole pages of zeros of that file are holes from now on. */
void disk_make_sparse(const char *name);
/* So many pages are free, until the programs end; UINT64_MAX, as at first: any number. */
void disk_space(uint64_t pages);
/* What strangers do: one removes a file, one has a file of the log locked, until it lets it go or the programs end. */
void disk_remove(const char *name);
void disk_lock(const char *name, bool locked);
/* For tests that damage and compare: NULL where there is no such file. */
uint8_t *disk_bytes(const char *name, uint64_t *size);
size_t disk_names(char names[][DISK_NAME], size_t capacity);
/* What was damaged by hand is durable. */
void disk_settle(void);
uint64_t disk_checksum(void); /* of all live names and bytes */

#endif
