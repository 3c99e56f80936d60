#include "segment.h"

#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "error.h"

enum { UNMAP_STEP = 4 << 20 }; /* bytes */

static int fail_map(int failed, const char *name, lw_error *error)
{
    if (failed == ENOMEM) /* not a lack of memory: the process is to know which limit it met */
        return lw_fail_system(error, LW_IO, failed, name,
                              "cannot map the file: the process has as many mappings as vm.max_map_count allows, or no address "
                              "space left; each segment takes one mapping, so raise the limit or segment_bytes");
    (void)lw_fail_errno(error, failed, name, "cannot map the file");
    return error->status = LW_IO;
}

int lw_segment_map(lw_fs *fs, lw_file *file, const char *name, uint64_t size, bool writable, lw_segment **out,
                   lw_error *error)
{
    lw_segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        fs->close(fs, file);
        return lw_fail_errno(error, ENOMEM, name, "open");
    }
    int failed = fs->map(fs, file, size, writable, &segment->base);
    if (failed) {
        fs->close(fs, file);
        free(segment);
        return fail_map(failed, name, error);
    }
    segment->fs = fs;
    segment->file = file;
    segment->size = segment->mapped = size;
    segment->pins = 1;
    segment->end = LW_FRAMES_OFFSET;
    segment->lowest_override = LW_NO_OVERRIDE;
    *out = segment;
    return LW_OK;
}

void lw_segment_pin(lw_segment *segment)
{
    (void)__atomic_add_fetch(&segment->pins, 1, __ATOMIC_RELAXED);
}

void lw_segment_unpin(lw_segment *segment)
{
    if (__atomic_sub_fetch(&segment->pins, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    while (lw_segment_unmap_step(segment))
        ;
    lw_segment_close_file(segment);
    free(segment->index_items);
    free(segment);
}

void lw_segment_close_file(lw_segment *segment)
{
    if (segment->file != NULL)
        segment->fs->close(segment->fs, segment->file);
    segment->file = NULL;
}

/* From its end, so that what is left stays one mapping. A step holds the process's memory map for a fraction of a millisecond. */
bool lw_segment_unmap_step(lw_segment *segment)
{
    uint64_t left = segment->mapped > UNMAP_STEP ? segment->mapped - UNMAP_STEP : 0;
    if (segment->mapped > 0)
        segment->fs->unmap(segment->fs, segment->base + left, segment->mapped - left);
    segment->mapped = left;
    return left > 0;
}

bool lw_segment_pinned_by_reader(const lw_segment *segment)
{
    return __atomic_load_n(&segment->pins, __ATOMIC_ACQUIRE) > 1;
}

typedef struct still_there {
    const lw_segment *segment;
    bool yes;
} still_there;

static void still_there_run(void *argument)
{
    still_there *question = argument;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* after what was read of the segment before */
    question->yes = lw_page_check(question->segment->base) == question->segment->header_check;
}

bool lw_segment_was_recycled(const lw_segment *segment)
{
    still_there question = {segment, false};
    return lw_guarded(still_there_run, &question) != 0 || !question.yes;
}

void lw_segment_name_of(const lw_segment *segment, char name[LW_NAME_SIZE])
{
    lw_segment_name(segment->identity.number, LW_SEGMENT_SUFFIX, name);
}

void lw_segment_set_identity(lw_segment *segment, const lw_identity *identity)
{
    segment->identity = *identity;
    segment->seed = segment->chain = lw_seed(identity);
}

/* ---- the offset index ---- */

int lw_segment_reserve(lw_segment *segment, uint64_t more)
{
    uint64_t need = segment->index_count + more;
    if (need <= segment->index_capacity)
        return LW_OK;
    uint64_t capacity = segment->index_capacity < 512 ? 1024 : segment->index_capacity * 2;
    if (capacity < need)
        capacity = need;
    uint32_t *items = realloc(segment->index_items, (size_t)(capacity * sizeof *items));
    if (items == NULL)
        return LW_NO_MEMORY;
    segment->index_items = items;
    segment->index_capacity = capacity;
    return LW_OK;
}

void lw_segment_push(lw_segment *segment, uint64_t index, uint64_t offset)
{
    if (segment->index_count == 0)
        segment->index_first = index;
    segment->index_items[segment->index_count++] = (uint32_t)(offset / 8);
}

void lw_segment_cut(lw_segment *segment, uint64_t from)
{
    if (from < segment->lowest_override)
        segment->lowest_override = from;
    if (from <= segment->index_first)
        segment->index_count = 0;
    else if (from - segment->index_first < segment->index_count)
        segment->index_count = from - segment->index_first;
}

/* ---- pages ---- */

void lw_segment_store_index(lw_segment *segment)
{
    uint8_t chunk[LW_PAGE_SIZE];
    uint64_t at = lw_index_offset(segment->size, segment->index_count);
    uint32_t crc = 0;
    for (uint64_t done = 0; done < segment->index_count;) {
        uint64_t count = segment->index_count - done;
        if (count > sizeof chunk / LW_INDEX_ITEM_SIZE)
            count = sizeof chunk / LW_INDEX_ITEM_SIZE;
        for (uint64_t i = 0; i < count; i++)
            lw_index_item_save(chunk, i, segment->index_items[done + i]);
        size_t size = (size_t)(count * LW_INDEX_ITEM_SIZE);
        crc = lw_crc32c(crc, chunk, size);
        lw_fs_store(segment->base + at, chunk, size);
        at += size;
        done += count;
    }
    segment->index_check = crc;
}

void lw_segment_describe(const lw_segment *segment, lw_page_type type, lw_page *page)
{
    memset(page, 0, sizeof *page);
    page->type = type;
    page->identity = segment->identity;
    page->size = segment->size;
    if (type == LW_HEADER)
        return;
    page->end = segment->end;
    page->chain = segment->chain;
    page->index_first = segment->index_first;
    page->index_count = segment->index_count;
    page->lowest_override = segment->lowest_override;
    page->index_check = segment->index_check;
}

void lw_segment_store_page(lw_segment *segment, lw_page *page)
{
    uint8_t bytes[LW_PAGE_SIZE];
    lw_page_encode(page, bytes);
    uint64_t at = page->type == LW_HEADER ? 0
                  : page->type == LW_CLOSE_MARK ? LW_MARK_OFFSET
                                                : segment->size - LW_PAGE_SIZE;
    lw_fs_store(segment->base + at, bytes, sizeof bytes);
}
