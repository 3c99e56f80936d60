#include "disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "error.h"
#include "sim.h"

enum {
    MAX_FILES = 96, MAX_SIZE = 512 * 1024, SECTORS = MAX_SIZE / DISK_SECTOR, MAX_CHANGES = 256, PAGE = 4096,
    PAGES = MAX_SIZE / PAGE,
};

typedef struct range {
    uint16_t low; /* of the bytes stored to since the sector was clean */
    uint16_t high;
} range;

typedef struct inode {
    bool used;
    uint32_t opens;
    uint32_t maps;
    bool locked;
    uint8_t *live;
    uint8_t *hard;
    uint64_t live_size;
    uint64_t hard_size;
    uint64_t extent; /* nothing but zeros behind it, in both */
    uint64_t dirty_end; /* no sector is dirty from here on */
    range dirty[SECTORS];
    bool hardened[SECTORS]; /* written back since the running sync began */
    bool hole[PAGES];
    bool hard_hole[PAGES]; /* as far as is durable */
} inode;

typedef struct name {
    char text[DISK_NAME];
    inode *file;
} name;

typedef enum change_kind { LINK, RENAME, UNLINK } change_kind;

typedef struct change {
    change_kind kind;
    inode *file;
    char to[DISK_NAME];
} change;

typedef struct directory {
    name names[MAX_FILES];
    size_t count;
} directory;

struct lw_file {
    inode *file;
    bool writable;
};

static inode inodes[MAX_FILES];
static uint8_t *live_memory;
static uint8_t *hard_memory;
static directory live_names;
static directory hard_names;
static change changes[MAX_CHANGES];
static size_t change_count;
static bool directory_locked;
static uint64_t free_pages = UINT64_MAX;
static bool tracing;
static unsigned eager;

static unsigned failing;
static unsigned failing_in;
static int failing_with;
static unsigned failing_again;
static bool sync_failed;
static bool any_failed;
static bool sync_runs;

/* ---- names ---- */

static inode *find(const directory *in, const char *text)
{
    for (size_t i = 0; i < in->count; i++)
        if (strcmp(in->names[i].text, text) == 0)
            return in->names[i].file;
    return NULL;
}

static const char *name_of(const inode *file)
{
    for (size_t i = 0; i < live_names.count; i++)
        if (live_names.names[i].file == file)
            return live_names.names[i].text;
    return "(nameless)";
}

static void drop_at(directory *in, size_t i)
{
    in->names[i] = in->names[--in->count];
}

static void drop_file(directory *in, const inode *file)
{
    for (size_t i = in->count; i > 0; i--)
        if (in->names[i - 1].file == file)
            drop_at(in, i - 1);
}

/* Whatever had the name before is gone. */
static void put(directory *in, const char *text, inode *file)
{
    for (size_t i = in->count; i > 0; i--)
        if (strcmp(in->names[i - 1].text, text) == 0)
            drop_at(in, i - 1);
    name *made = &in->names[in->count++];
    (void)snprintf(made->text, sizeof made->text, "%s", text);
    made->file = file;
}

static void apply(directory *in, const change *c)
{
    if (c->kind != LINK)
        drop_file(in, c->file);
    if (c->kind != UNLINK)
        put(in, c->to, c->file);
}

static void commit_changes(size_t count)
{
    for (size_t i = 0; i < count; i++)
        apply(&hard_names, &changes[i]);
    memmove(changes, changes + count, (change_count - count) * sizeof *changes);
    change_count -= count;
}

static void note(change_kind kind, inode *file, const char *to)
{
    if (change_count == MAX_CHANGES)
        commit_changes(MAX_CHANGES / 2);
    changes[change_count] = (change){.kind = kind, .file = file};
    if (to != NULL)
        (void)snprintf(changes[change_count].to, DISK_NAME, "%s", to);
    apply(&live_names, &changes[change_count]);
    change_count++;
}

static bool is_referred_to(const inode *file)
{
    if (file->opens > 0 || file->maps > 0)
        return true;
    for (size_t i = 0; i < live_names.count; i++)
        if (live_names.names[i].file == file)
            return true;
    for (size_t i = 0; i < hard_names.count; i++)
        if (hard_names.names[i].file == file)
            return true;
    for (size_t i = 0; i < change_count; i++)
        if (changes[i].file == file)
            return true;
    return false;
}

static void erase(inode *file)
{
    if (!file->used)
        return;
    memset(file->live, 0, file->extent);
    memset(file->hard, 0, file->extent);
    memset(file->dirty, 0, sizeof file->dirty);
    memset(file->hole, 0, sizeof file->hole);
    memset(file->hard_hole, 0, sizeof file->hard_hole);
    file->live_size = file->hard_size = file->extent = file->dirty_end = 0;
    file->opens = file->maps = 0;
    file->used = file->locked = false;
}

static inode *make_inode(void)
{
    for (int sweep = 0; sweep < 2; sweep++) {
        for (size_t i = 0; i < MAX_FILES; i++)
            if (!inodes[i].used) {
                inodes[i].used = true;
                return &inodes[i];
            }
        for (size_t i = 0; i < MAX_FILES; i++)
            if (!is_referred_to(&inodes[i]))
                erase(&inodes[i]);
    }
    (void)fprintf(stderr, "disk: too many files\n");
    abort();
}

void disk_clear(void)
{
    size_t size = (size_t)MAX_FILES * MAX_SIZE;
    if (live_memory == NULL) {
        live_memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        hard_memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (live_memory == MAP_FAILED || hard_memory == MAP_FAILED)
            abort();
    }
    for (size_t i = 0; i < MAX_FILES; i++) {
        inodes[i].live = live_memory + i * MAX_SIZE;
        inodes[i].hard = hard_memory + i * MAX_SIZE;
        erase(&inodes[i]);
    }
    live_names.count = hard_names.count = change_count = 0;
    directory_locked = false;
    sync_failed = any_failed = sync_runs = false;
    failing = 0;
}

/* ---- bytes ---- */

static void mark(inode *file, uint64_t offset, uint64_t size)
{
    if (size == 0)
        return;
    if (offset + size > file->extent)
        file->extent = offset + size;
    for (uint64_t at = offset; at < offset + size;) {
        uint64_t sector = at / DISK_SECTOR;
        uint64_t end = (sector + 1) * DISK_SECTOR;
        if (end > offset + size)
            end = offset + size;
        range *dirty = &file->dirty[sector];
        uint16_t low = (uint16_t)(at - sector * DISK_SECTOR);
        uint16_t high = (uint16_t)(end - sector * DISK_SECTOR);
        if (dirty->high == 0 || low < dirty->low)
            dirty->low = low;
        if (high > dirty->high)
            dirty->high = high;
        at = end;
        if (sector + 1 > file->dirty_end)
            file->dirty_end = sector + 1;
    }
}

static void harden(inode *file, uint64_t sector)
{
    file->hard_hole[sector * DISK_SECTOR / PAGE] = false;
    memcpy(file->hard + sector * DISK_SECTOR, file->live + sector * DISK_SECTOR, DISK_SECTOR);
    file->dirty[sector] = (range){0, 0};
    file->hardened[sector] = true;
}

/* ---- space ---- */

static bool take_page(void)
{
    if (free_pages == 0) {
        any_failed = true;
        return false;
    }
    if (free_pages < UINT64_MAX)
        free_pages--;
    return true;
}

/* The pages of [offset, offset + size) get blocks, from the first on: holes, and what lies behind the end of the file. 0 or
 * ENOSPC; *done is where the space ended. */
static int take_pages(inode *file, uint64_t offset, uint64_t size, uint64_t *done)
{
    uint64_t grown = (file->live_size + PAGE - 1) / PAGE;
    for (uint64_t page = offset / PAGE; page < (offset + size + PAGE - 1) / PAGE; page++) {
        *done = page * PAGE > offset ? page * PAGE : offset;
        if ((file->hole[page] || page >= grown) && !take_page())
            return ENOSPC;
        file->hole[page] = false;
    }
    *done = offset + size;
    return 0;
}

void disk_space(uint64_t pages)
{
    free_pages = pages;
}

/* The nth dirty sector, or of all where n is too large the last. */
static uint64_t some_dirty_sector(const inode *file)
{
    uint64_t start = sim_below(file->dirty_end);
    for (uint64_t i = 0; i < file->dirty_end; i++)
        if (file->dirty[(start + i) % file->dirty_end].high > 0)
            return (start + i) % file->dirty_end;
    return UINT64_MAX;
}

/* The system writes back when it likes, and its journal too. */
static void write_back_early(void)
{
    if (!sim_chance(eager))
        return;
    inode *file = &inodes[sim_below(MAX_FILES)];
    for (size_t i = 0; i < MAX_FILES && (!file->used || file->dirty_end == 0); i++)
        file = &inodes[(size_t)(file - inodes + 1) % MAX_FILES];
    for (uint64_t count = 1 + sim_below(8); count > 0 && file->dirty_end > 0; count--) {
        uint64_t sector = some_dirty_sector(file);
        if (sector == UINT64_MAX)
            break;
        harden(file, sector);
    }
    if (change_count > 0 && sim_chance(20))
        commit_changes(1 + sim_below(change_count));
    if (file->live_size > file->hard_size && sim_chance(20))
        file->hard_size = file->live_size;
}

/* ---- events and failures ---- */

void disk_trace(bool on)
{
    tracing = on;
}

__attribute__((format(printf, 1, 2))) static void trace(const char *format, ...)
{
    va_list arguments;
    if (!tracing)
        return;
    (void)printf("    %4llu  ", (unsigned long long)sim_events());
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)printf("\n");
}

void disk_fail(unsigned operations, unsigned nth, int error)
{
    failing = operations;
    failing_in = nth;
    failing_with = error;
    failing_again = 0;
}

void disk_fail_again(unsigned percent)
{
    failing_again = percent;
}

bool disk_sync_failed(void)
{
    return sync_failed;
}

bool disk_sync_runs(void)
{
    return sync_runs;
}

bool disk_failed(void)
{
    return any_failed;
}

void disk_eager(unsigned percent)
{
    eager = percent;
}

static void moment(void)
{
    if (sim_is_quiet())
        return;
    if (sim_event())
        sim_die();
    if (sim_chance(30))
        sim_yield();
    write_back_early();
}

/* The error that it has to fail with, or 0. */
static int failure_of(disk_operation operation)
{
    if (sim_is_quiet() || (failing & operation) == 0 || failing_in == 0 || --failing_in > 0)
        return 0;
    any_failed = true;
    if (sim_chance(failing_again))
        failing_in = 1 + (unsigned)sim_below(10);
    trace("the next one fails: %s", strerror(failing_with));
    return failing_with;
}

/* Each operation begins here. */
static int begin(disk_operation operation)
{
    moment();
    return failure_of(operation);
}

/* ---- the table ---- */

static int double_open(lw_fs *fs, const char *text, int flags, lw_file **out)
{
    (void)fs;
    int failed = begin(DISK_OPEN);
    if (strcmp(text, "0000000000000000.wal") == 0) {
        (void)fprintf(stderr, "disk: segment 0 is opened\n");
        abort();
    }
    if (failed)
        return failed;
    inode *file = find(&live_names, text);
    if (file == NULL && !(flags & LW_OPEN_CREATE))
        return ENOENT;
    trace("open %s%s", text, file == NULL ? ", made" : "");
    lw_file *made = sim_malloc(sizeof *made);
    if (made == NULL)
        return ENOMEM;
    if (file == NULL) {
        file = make_inode();
        note(LINK, file, text);
    }
    file->opens++;
    *made = (lw_file){file, (flags & LW_OPEN_WRITE) != 0};
    *out = made;
    return 0;
}

/* What is locked stays locked: there is always somebody who has a copy of the descriptor. */
static void double_close(lw_fs *fs, lw_file *file)
{
    (void)fs;
    file->file->opens--;
    sim_free(file);
}

static int double_size(lw_fs *fs, lw_file *file, uint64_t *size)
{
    (void)fs;
    *size = file->file->live_size;
    return 0;
}

static int write_bytes(inode *file, uint64_t offset, const void *from, uint64_t size)
{
    uint64_t done;
    if (offset + size > MAX_SIZE)
        return ENOSPC;
    int failed = size > 0 ? take_pages(file, offset, size, &done) : 0;
    if (failed)
        size = done - offset;
    if (from != NULL)
        memcpy(file->live + offset, from, size);
    else
        memset(file->live + offset, 0, size);
    mark(file, offset, size);
    if (size > 0 && offset + size > file->live_size)
        file->live_size = offset + size;
    return failed;
}

/* Half done, where it fails or the process dies: then the files are grown, but not filled. */
static int double_allocate(lw_fs *fs, lw_file *file, uint64_t offset, uint64_t size)
{
    (void)fs;
    trace("allocate %s %llu+%llu", name_of(file->file), (unsigned long long)offset, (unsigned long long)size);
    int failed = begin(DISK_ALLOCATE);
    uint64_t part = sim_below(size / PAGE + 1) * PAGE;
    if (failed) {
        (void)write_bytes(file->file, offset, NULL, part);
        return failed;
    }
    uint64_t done;
    if (offset + size > MAX_SIZE || take_pages(file->file, offset, size, &done))
        return ENOSPC;
    if (offset + size > file->file->live_size)
        file->file->live_size = offset + size;
    moment();
    (void)write_bytes(file->file, offset, NULL, part);
    moment();
    return write_bytes(file->file, offset, NULL, size);
}

/* In part, where there is no space for all. */
static int double_reserve(lw_fs *fs, lw_file *file, uint64_t offset, uint64_t size)
{
    (void)fs;
    uint64_t done;
    trace("reserve %s %llu+%llu", name_of(file->file), (unsigned long long)offset, (unsigned long long)size);
    int failed = begin(DISK_RESERVE);
    if (failed || offset + size > MAX_SIZE)
        return failed ? failed : ENOSPC;
    if (offset + size > file->file->live_size && sim_chance(30)) /* some file systems cannot do this */
        return EOPNOTSUPP;
    failed = take_pages(file->file, offset, size, &done);
    if (done > file->file->live_size)
        file->file->live_size = done;
    moment();
    return failed;
}

static int double_map(lw_fs *fs, lw_file *file, uint64_t size, bool writable, uint8_t **base)
{
    (void)fs;
    int failed = begin(DISK_MAP);
    if (failed)
        return failed;
    if (size > file->file->live_size || (writable && !file->writable)) {
        (void)fprintf(stderr, "disk: a map of what is not there, or not to be written\n");
        abort();
    }
    file->file->maps++;
    *base = file->file->live;
    return 0;
}

static inode *inode_at(const uint8_t *at, uint64_t *offset)
{
    size_t distance = (size_t)(at - live_memory);
    *offset = distance % MAX_SIZE;
    return &inodes[distance / MAX_SIZE];
}

static void double_unmap(lw_fs *fs, uint8_t *base, uint64_t size)
{
    uint64_t offset;
    (void)fs;
    (void)size;
    inode_at(base, &offset)->maps--;
}

static void double_will_read(lw_fs *fs, lw_file *file, uint64_t size)
{
    (void)fs;
    (void)file;
    (void)size;
}

static int double_read(lw_fs *fs, lw_file *file, uint64_t offset, void *to, size_t size)
{
    (void)fs;
    int failed = begin(DISK_READ);
    if (failed)
        return failed;
    if (offset + size > file->file->live_size)
        return ENODATA;
    memcpy(to, file->file->live + offset, size);
    return 0;
}

static int double_write(lw_fs *fs, lw_file *file, uint64_t offset, const void *from, size_t size)
{
    (void)fs;
    trace("write %s %llu+%zu", name_of(file->file), (unsigned long long)offset, size);
    int failed = begin(DISK_WRITE);
    if (failed) {
        (void)write_bytes(file->file, offset, from, sim_below(size));
        return failed;
    }
    (void)write_bytes(file->file, offset, from, sim_below(size));
    moment();
    return write_bytes(file->file, offset, from, size);
}

/* Any part is written; all counts as clean. */
static void fail_sync(inode *file)
{
    bool reverts = sim_chance(50);
    trace("    ... and what was not written is %s", reverts ? "gone" : "in the cache only");
    for (uint64_t sector = 0; sector < file->dirty_end; sector++) {
        if (file->dirty[sector].high == 0)
            continue;
        if (sim_chance(30))
            harden(file, sector);
        else if (reverts)
            memcpy(file->live + sector * DISK_SECTOR, file->hard + sector * DISK_SECTOR, DISK_SECTOR);
        file->dirty[sector] = (range){0, 0};
    }
    file->dirty_end = 0;
}

static bool log_relies_on(const inode *file)
{
    const char *text = name_of(file);
    return strstr(text, ".wal") != NULL && file->live[0] != 0;
}

static void finish_sync(inode *file, const uint8_t *begun, const bool *covered, uint64_t sectors)
{
    for (uint64_t sector = 0; sector < sectors; sector++) {
        if (!covered[sector] || file->hardened[sector])
            continue;
        uint64_t at = sector * DISK_SECTOR;
        memcpy(file->hard + at, begun + at, DISK_SECTOR);
        file->hard_hole[at / PAGE] = false;
        if (memcmp(begun + at, file->live + at, DISK_SECTOR) == 0)
            file->dirty[sector] = (range){0, 0};
    }
    while (file->dirty_end > 0 && file->dirty[file->dirty_end - 1].high == 0)
        file->dirty_end--;
}

static int double_sync(lw_fs *fs, lw_file *opened)
{
    (void)fs;
    inode *file = opened->file;
    uint64_t sectors = file->dirty_end;
    uint64_t size = file->live_size;
    uint8_t *begun = sim_malloc(sectors * DISK_SECTOR + sectors + 1);
    bool *covered = (bool *)(begun + sectors * DISK_SECTOR);
    trace("sync %s", name_of(file));
    memcpy(begun, file->live, sectors * DISK_SECTOR);
    for (uint64_t sector = 0; sector < sectors; sector++)
        covered[sector] = file->dirty[sector].high > 0;
    memset(file->hardened, 0, sizeof file->hardened);
    sync_runs = true;
    int failed = begin(DISK_SYNC);
    if (sim_chance(50))
        sim_yield();
    sync_runs = false;
    if (failed) {
        sync_failed = sync_failed || log_relies_on(file);
        fail_sync(file);
    } else {
        finish_sync(file, begun, covered, sectors);
        if (size > file->hard_size)
            file->hard_size = size;
    }
    sim_free(begun);
    return failed;
}

static int double_check_place(lw_fs *fs)
{
    (void)fs;
    return 0;
}

static int double_sync_dir(lw_fs *fs)
{
    (void)fs;
    trace("sync the directory");
    size_t count = change_count;
    int failed = begin(DISK_SYNC_DIR);
    if (count > change_count)
        count = change_count; /* written back meanwhile */
    if (failed) { /* and a journal keeps what it could not write, or stops for good */
        sync_failed = true;
        return failed;
    }
    commit_changes(count);
    return 0;
}

static int double_rename(lw_fs *fs, const char *from, const char *to)
{
    (void)fs;
    trace("rename %s to %s", from, to);
    int failed = begin(DISK_RENAME);
    if (failed)
        return failed;
    inode *file = find(&live_names, from);
    if (file == NULL)
        return ENOENT;
    if (find(&live_names, to) != NULL)
        return EEXIST;
    note(RENAME, file, to);
    return 0;
}

static int double_remove(lw_fs *fs, const char *text)
{
    (void)fs;
    trace("remove %s", text);
    int failed = begin(DISK_REMOVE);
    if (failed)
        return failed;
    inode *file = find(&live_names, text);
    if (file == NULL)
        return ENOENT;
    note(UNLINK, file, NULL);
    return 0;
}

static int double_list(lw_fs *fs, lw_list_visitor *visitor, void *argument)
{
    (void)fs;
    int failed = begin(DISK_LIST);
    directory seen = live_names;
    for (size_t i = 0; i < seen.count && !failed; i++)
        failed = visitor(argument, seen.names[i].text);
    return failed;
}

static int double_lock(lw_fs *fs, lw_file *file)
{
    (void)fs;
    if (file->file->locked)
        return EWOULDBLOCK;
    file->file->locked = true;
    return 0;
}

static void double_unlock(lw_fs *fs, lw_file *file)
{
    (void)fs;
    file->file->locked = false;
}

static int double_lock_dir(lw_fs *fs)
{
    (void)fs;
    if (directory_locked)
        return EWOULDBLOCK;
    directory_locked = true;
    return 0;
}

static void double_unlock_dir(lw_fs *fs)
{
    (void)fs;
    directory_locked = false;
}

static void double_abandon(lw_fs *fs, lw_file *lock_file)
{
    (void)fs;
    (void)lock_file;
}

static int double_random(lw_fs *fs, void *to, size_t size)
{
    (void)fs;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = (uint8_t)sim_random();
    return 0;
}

static void double_destroy(lw_fs *fs)
{
    sim_free(fs);
}

lw_fs *disk_open(void)
{
    lw_fs *fs = sim_malloc(sizeof *fs);
    *fs = (lw_fs){
        .open = double_open,
        .close = double_close,
        .size = double_size,
        .allocate = double_allocate,
        .reserve = double_reserve,
        .map = double_map,
        .unmap = double_unmap,
        .will_read = double_will_read,
        .read = double_read,
        .write = double_write,
        .sync = double_sync,
        .sync_dir = double_sync_dir,
        .check_place = double_check_place,
        .rename = double_rename,
        .remove = double_remove,
        .list = double_list,
        .lock = double_lock,
        .unlock = double_unlock,
        .lock_dir = double_lock_dir,
        .unlock_dir = double_unlock_dir,
        .abandon = double_abandon,
        .random = double_random,
        .destroy = double_destroy,
    };
    return fs;
}

/* ---- stores to mappings ---- */

static void copy_to(inode *file, uint64_t offset, uint8_t *to, const void *from, size_t size)
{
    if (from != NULL)
        memcpy(to, from, size);
    else
        memset(to, 0, size);
    mark(file, offset, size);
}

/* A page that cannot be had: what comes before it in the copy is stored. */
static void fault(inode *file, uint64_t offset, uint8_t *to, const void *from, size_t size)
{
    size_t before = (size_t)(PAGE - offset % PAGE);
    if (before < size && sim_chance(50))
        copy_to(file, offset, to, from, before);
    jmp_buf *guard = *sim_thread_local();
    if (guard == NULL) {
        (void)fprintf(stderr, "disk: a store outside of lw_guarded\n");
        abort();
    }
    longjmp(*guard, 1);
}

/* csrc/guard.c, without signals. */
int lw_guarded(void (*body)(void *argument), void *argument)
{
    void **const innermost = sim_thread_local();
    void *const outer = *innermost;
    jmp_buf here;
    *innermost = &here;
    if (setjmp(here) != 0) {
        *innermost = outer;
        return EIO;
    }
    body(argument);
    *innermost = outer;
    return 0;
}

void lw_guard_install(void)
{
}

static void store(uint8_t *to, const void *from, size_t size)
{
    uint64_t offset;
    inode *file = inode_at(to, &offset);
    bool dies = sim_event();
    uint64_t done;
    if (!dies && failure_of(DISK_STORE))
        fault(file, offset, to, from, size);
    if (dies)
        size = (size_t)sim_below(size + 1); /* in the middle of the copy */
    if (offset + size > file->live_size || file->maps == 0) {
        (void)fprintf(stderr, "disk: a store to what is not mapped\n");
        abort();
    }
    bool full = size > 0 && take_pages(file, offset, size, &done) != 0;
    if (full)
        size = (size_t)(done - offset);
    copy_to(file, offset, to, from, size);
    if (dies)
        sim_die();
    if (full)
        fault(file, done, to + size, NULL, 1);
    write_back_early();
}

void lw_fs_store(uint8_t *to, const void *from, size_t size)
{
    store(to, from, size);
}

void lw_fs_zero(uint8_t *to, size_t size)
{
    store(to, NULL, size);
}

/* ---- the end of a process, and of power ---- */

static void forget_programs(void)
{
    for (size_t i = 0; i < MAX_FILES; i++) {
        inodes[i].opens = inodes[i].maps = 0;
        inodes[i].locked = false;
        if (inodes[i].used && !is_referred_to(&inodes[i]))
            erase(&inodes[i]);
    }
    directory_locked = false;
    free_pages = UINT64_MAX;
    failing = 0;
    sync_failed = any_failed = sync_runs = false;
}

void disk_kill(void)
{
    forget_programs();
}

/* Old and new in one sector, or neither where they differ. */
static void tear(inode *file, uint64_t sector)
{
    const uint8_t *live = file->live + sector * DISK_SECTOR;
    uint8_t *hard = file->hard + sector * DISK_SECTOR;
    range dirty = file->dirty[sector];
    uint64_t split = dirty.low + sim_below((uint64_t)(dirty.high - dirty.low) + 1);
    uint64_t way = sim_below(3);
    for (uint64_t i = dirty.low; i < dirty.high; i++) {
        if (hard[i] == live[i])
            continue;
        if (way == 2)
            hard[i] = (uint8_t)sim_random();
        else if ((i < split) == (way == 0))
            hard[i] = live[i];
    }
}

static unsigned percent_of(disk_survival survival, bool journal)
{
    switch (survival) {
    case DISK_NOTHING:
        return 0;
    case DISK_EVERYTHING:
        return 100;
    case DISK_MOST:
        return 90;
    case DISK_FEW:
        return 15;
    case DISK_NAMES_ONLY:
        return journal ? 100 : 0;
    case DISK_BYTES_ONLY:
        return journal ? 0 : 100;
    default:
        return 50;
    }
}

static unsigned last_sectors; /* of DISK_LATER; 0: any number */

static void cut_file(inode *file, disk_survival survival)
{
    uint64_t dirty_count = 0;
    for (uint64_t sector = 0; sector < file->dirty_end; sector++)
        dirty_count += file->dirty[sector].high > 0;
    uint64_t lost = survival == DISK_LATER && dirty_count > 0 ? 1 + sim_below(dirty_count) : 0;
    if (survival == DISK_LATER && last_sectors > 0)
        lost = dirty_count > last_sectors ? dirty_count - last_sectors : 0;
    for (uint64_t sector = 0; sector < file->dirty_end; sector++) {
        if (file->dirty[sector].high == 0)
            continue;
        bool stays = survival == DISK_LATER ? lost == 0 : sim_chance(percent_of(survival, false));
        if (lost > 0)
            lost--;
        if (survival == DISK_TORN && sim_chance(40))
            tear(file, sector);
        else if (stays)
            harden(file, sector);
        file->dirty[sector] = (range){0, 0};
    }
    file->dirty_end = 0;
    for (uint64_t page = 0; page < PAGES; page++) {
        bool stays = !file->hard_hole[page] || file->hole[page] == file->hard_hole[page] || sim_chance(50);
        file->hole[page] = file->hard_hole[page] = stays ? file->hole[page] : file->hard_hole[page];
    }
    if (file->live_size > file->hard_size && (last_sectors > 0 || sim_chance(percent_of(survival, true))))
        file->hard_size = file->live_size;
    if (file->extent > file->hard_size)
        memset(file->hard + file->hard_size, 0, file->extent - file->hard_size);
    file->live_size = file->hard_size;
    memcpy(file->live, file->hard, file->extent);
}

static void cut_names(disk_survival survival)
{
    unsigned percent = last_sectors > 0 ? 100 : percent_of(survival, true);
    if (percent == 50 && sim_chance(50)) {
        commit_changes(sim_below(change_count + 1));
    } else {
        inode *lost[MAX_CHANGES];
        size_t lost_count = 0;
        for (size_t i = 0; i < change_count; i++) {
            bool is_lost = !sim_chance(percent);
            for (size_t l = 0; l < lost_count; l++)
                is_lost = is_lost || lost[l] == changes[i].file;
            if (is_lost)
                lost[lost_count++] = changes[i].file;
            else
                apply(&hard_names, &changes[i]);
        }
    }
    change_count = 0;
    live_names = hard_names;
}

void disk_power_cut(disk_survival survival)
{
    cut_names(survival);
    for (size_t i = 0; i < MAX_FILES; i++)
        if (inodes[i].used)
            cut_file(&inodes[i], survival);
    forget_programs();
}

void disk_power_cut_but(unsigned last)
{
    last_sectors = last;
    disk_power_cut(DISK_LATER);
    last_sectors = 0;
}

/* ---- by hand ---- */

void disk_make_sparse(const char *text)
{
    static const uint8_t zeros[PAGE];
    inode *file = find(&live_names, text);
    for (uint64_t page = 0; file != NULL && page < file->live_size / PAGE; page++)
        file->hole[page] = file->hard_hole[page] = memcmp(file->live + page * PAGE, zeros, PAGE) == 0;
}

void disk_remove(const char *text)
{
    inode *file = find(&live_names, text);
    if (file != NULL)
        note(UNLINK, file, NULL);
}

void disk_lock(const char *text, bool locked)
{
    find(&live_names, text)->locked = locked;
}

uint8_t *disk_bytes(const char *text, uint64_t *size)
{
    inode *file = find(&live_names, text);
    if (file == NULL)
        return NULL;
    *size = file->live_size;
    return file->live;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

size_t disk_names(char names[][DISK_NAME], size_t capacity)
{
    size_t count = live_names.count < capacity ? live_names.count : capacity;
    for (size_t i = 0; i < count; i++)
        memcpy(names[i], live_names.names[i].text, DISK_NAME);
    qsort(names, count, DISK_NAME, compare_names);
    return count;
}

void disk_settle(void)
{
    commit_changes(change_count);
    for (size_t i = 0; i < MAX_FILES; i++) {
        inode *file = &inodes[i];
        if (!file->used)
            continue;
        memcpy(file->hard, file->live, file->extent);
        file->hard_size = file->live_size;
        memset(file->dirty, 0, sizeof file->dirty);
        file->dirty_end = 0;
    }
}

uint64_t disk_checksum(void)
{
    char names[MAX_FILES][DISK_NAME];
    uint64_t sum = 14695981039346656037u;
    size_t count = disk_names(names, MAX_FILES);
    for (size_t i = 0; i < count; i++) {
        uint64_t size = 0;
        const uint8_t *bytes = disk_bytes(names[i], &size);
        for (size_t c = 0; names[i][c] != '\0'; c++)
            sum = (sum ^ (uint8_t)names[i][c]) * 1099511628211u;
        for (uint64_t b = 0; b < size; b++)
            sum = (sum ^ bytes[b]) * 1099511628211u;
    }
    return sum;
}

/* A process of the simulation has no children. */
void *lw_fork_page(void)
{
    return NULL;
}

/* The core's other way in; nothing here uses it. */
int lw_fs_posix(const char *path, bool create, lw_fs **out, lw_error *error)
{
    (void)path;
    (void)create;
    *out = NULL;
    return lw_fail_errno(error, ENOSYS, NULL, "no disk but the simulated one");
}
