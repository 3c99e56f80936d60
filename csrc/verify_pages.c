#include "verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc32c.h"
#include "error.h"

/* ---- the pages of one file ---- */

static bool belongs(const lw_verify *v, const lw_page *page, uint64_t number)
{
    return v->has_log_id && memcmp(page->identity.log_id, v->log_id, LW_LOG_ID_SIZE) == 0 && page->identity.number == number;
}

bool lw_verify_is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

int lw_verify_fail_newer(lw_verify *v, const char *name)
{
    return lw_fail_file(v->error, LW_UNSUPPORTED_FORMAT, name,
                        "the file was written by a newer version of the library; install a newer pylogwal");
}

/* A file that ends before the page has none. */
static int read_page(lw_verify *v, lw_pages *p, uint64_t offset, lw_page_type type, lw_page *page, uint8_t *bytes, bool *valid)
{
    memset(bytes, 0, LW_PAGE_SIZE);
    *valid = false;
    if (p->file_size < LW_PAGE_SIZE || offset > p->file_size - LW_PAGE_SIZE)
        return LW_OK;
    int failed = v->fs->read(v->fs, p->file, offset, bytes, LW_PAGE_SIZE);
    if (failed == ENODATA) /* it is just being cut */
        return LW_NOT_FOUND;
    if (failed) {
        p->unreadable = failed;
        return LW_OK;
    }
    lw_decoded decoded = lw_page_decode(page, type, bytes);
    if (decoded == LW_NEWER_VERSION)
        return lw_verify_fail_newer(v, p->name);
    *valid = decoded == LW_VALID;
    return LW_OK;
}

static bool same_nonce(const lw_pages *p, const lw_page *page)
{
    return !p->has_header || page->identity.nonce == p->header.identity.nonce;
}

static int load_header(lw_verify *v, lw_pages *p)
{
    uint8_t bytes[LW_PAGE_SIZE];
    bool valid;
    int status = read_page(v, p, 0, LW_HEADER, &p->header, bytes, &valid);
    if (status != LW_OK)
        return status;
    p->header_check = lw_page_check(bytes);
    if (valid && !v->has_log_id) {
        memcpy(v->log_id, p->header.identity.log_id, LW_LOG_ID_SIZE);
        v->has_log_id = true;
    }
    p->has_header = valid && belongs(v, &p->header, p->number);
    p->is_foreign = valid && !p->has_header;
    return LW_OK;
}

static int load_rest(lw_verify *v, lw_pages *p)
{
    uint8_t bytes[LW_PAGE_SIZE];
    bool valid;
    uint64_t whole = p->file_size / LW_PAGE_SIZE * LW_PAGE_SIZE;
    uint64_t size = p->has_header ? p->header.size : whole;
    int status = read_page(v, p, LW_MARK_OFFSET, LW_CLOSE_MARK, &p->mark, p->mark_bytes, &valid);
    if (status != LW_OK)
        return status;
    p->mark_is_zero = lw_verify_is_zero(p->mark_bytes, LW_PAGE_SIZE);
    p->has_mark = valid && belongs(v, &p->mark, p->number) && same_nonce(p, &p->mark);
    if (!p->has_header && p->has_mark)
        size = p->mark.size;
    status = size < LW_PAGE_SIZE ? LW_OK : read_page(v, p, size - LW_PAGE_SIZE, LW_FOOTER, &p->footer, bytes, &valid);
    p->has_footer = size >= LW_PAGE_SIZE && valid && belongs(v, &p->footer, p->number) && same_nonce(p, &p->footer) &&
                    p->footer.size == size;
    p->size = size < whole ? size : whole;
    p->has_identity = p->has_header || p->has_footer || p->has_mark;
    if (p->has_identity)
        p->identity = p->has_header ? p->header.identity : p->has_footer ? p->footer.identity : p->mark.identity;
    return status;
}

int lw_verify_add_unreadable(lw_verify *v, uint64_t number, uint64_t offset, int sys_errno)
{
    char what[128];
    (void)snprintf(what, sizeof what, "the system cannot read the file: %s", strerror(sys_errno));
    return lw_verify_add(v, LW_FOUND_UNREADABLE, number, offset, true, what) == NULL ? lw_verify_no_memory(v) : LW_OK;
}

static int load(lw_verify *v, uint64_t number, lw_pages *p)
{
    memset(p, 0, sizeof *p);
    p->number = number;
    lw_segment_name(number, LW_SEGMENT_SUFFIX, p->name);
    int failed = v->fs->open(v->fs, p->name, 0, &p->file);
    if (failed == ENOENT)
        return LW_NOT_FOUND;
    if (failed == EMFILE || failed == ENFILE || failed == ENOMEM)
        return lw_fail_errno(v->error, failed, p->name, "cannot open the file");
    p->unreadable = failed;
    if (!failed)
        p->unreadable = v->fs->size(v->fs, p->file, &p->file_size);
    if (p->unreadable != 0)
        return LW_OK;
    int status = load_header(v, p);
    if (status == LW_OK && !p->is_foreign)
        status = load_rest(v, p);
    if (status != LW_OK)
        lw_pages_close(v, p);
    return status;
}

/* A file that was opened as this segment may have been renamed since, and used again: then its name is gone. */
int lw_pages_load(lw_verify *v, uint64_t number, lw_pages *p)
{
    int status = load(v, number, p);
    if (status != LW_OK || !p->is_foreign)
        return status;
    lw_pages_close(v, p);
    return load(v, number, p);
}

int lw_pages_footer(lw_verify *v, uint64_t number, lw_page *footer, bool *has)
{
    lw_pages *pages = malloc(sizeof *pages);
    *has = false;
    if (pages == NULL)
        return lw_verify_no_memory(v);
    int status = number > 0 ? lw_pages_load(v, number, pages) : LW_NOT_FOUND;
    if (status == LW_OK) {
        *has = pages->has_footer;
        *footer = pages->footer;
        lw_pages_close(v, pages);
    }
    free(pages);
    return status == LW_NOT_FOUND ? LW_OK : status;
}

void lw_pages_close(lw_verify *v, lw_pages *p)
{
    if (p->file != NULL)
        v->fs->close(v->fs, p->file);
    p->file = NULL;
}

bool lw_pages_are_cut(const lw_pages *p)
{
    return p->has_header && p->file_size < p->header.size;
}

bool lw_pages_have_room(const lw_pages *p)
{
    return p->size >= LW_FRAMES_OFFSET + 2 * LW_PAGE_SIZE;
}

/* ---- what is wrong with them ---- */

static lw_damage *add(lw_verify *v, lw_finding_kind kind, uint64_t offset, bool needed, const char *what)
{
    return lw_verify_add(v, kind, v->here.number, offset, needed, what);
}

static bool same_state(const lw_state *a, const lw_state *b)
{
    uint8_t left[LW_PAGE_SIZE];
    uint8_t right[LW_PAGE_SIZE];
    lw_page page = {.type = LW_HEADER, .state = *a};
    lw_page_encode(&page, left);
    page = (lw_page){.type = LW_HEADER, .state = *b};
    lw_page_encode(&page, right);
    return memcmp(left, right, sizeof left) == 0;
}

/* True where the replayed frames amount to what the footer or close mark says. */
static bool ends_so(const lw_verify *v, const lw_page *page)
{
    const lw_walk *walk = &v->replay.walk;
    lw_position end = {page->identity.number, page->end};
    return v->segment->end == page->end && v->segment->chain == page->chain && same_state(&walk->state, &page->state) &&
           !lw_position_before(end, page->watermark);
}

static bool check_footer(lw_verify *v)
{
    const lw_pages *p = &v->here;
    uint64_t offset = p->size - LW_PAGE_SIZE;
    if (!p->has_footer)
        return add(v, LW_FOUND_FOOTER, offset, true, "the footer is damaged") != NULL;
    if (v->has_after && v->after.has_header && v->after.header.predecessor_check != p->footer.check)
        return add(v, LW_FOUND_CHAIN, offset, true, "the footer is not the one that the next segment names") != NULL;
    if (v->is_whole && !ends_so(v, &p->footer))
        return add(v, LW_FOUND_CHAIN, offset, true, "the footer does not say what the frames amount to") != NULL;
    return true;
}

/* The header of the successor must go on where this segment ends. */
static bool check_successor(lw_verify *v)
{
    if (!v->has_after || !v->after.has_header || !v->here.has_footer)
        return true;
    const lw_page *header = &v->after.header;
    lw_position begin = {header->identity.number, LW_FRAMES_OFFSET};
    if (header->predecessor == v->here.number && same_state(&header->state, &v->here.footer.state) &&
        !lw_position_before(begin, header->watermark))
        return true;
    return lw_verify_add(v, LW_FOUND_CHAIN, v->after.number, 0, true,
                         "the header does not go on where the segment before ends") != NULL;
}

enum { SECTOR = 512 };

typedef struct lost_bytes {
    unsigned missing;
    unsigned of;
} lost_bytes;

/* True for a sector of a close mark page that was being stored, or zeroed, when the machine stopped: its first bytes, or its last
 * ones, are those of the whole mark, and the rest is zero. */
static bool sector_is_torn(const uint8_t *bytes, const uint8_t *whole, lost_bytes *lost)
{
    unsigned changes = 0;
    bool was_missing = false;
    *lost = (lost_bytes){0, 0};
    for (size_t i = 0; i < SECTOR; i++) {
        bool missing = bytes[i] != whole[i];
        if (missing && bytes[i] != 0)
            return false;
        if (whole[i] == 0)
            continue;
        changes += lost->of > 0 && missing != was_missing;
        lost->missing += missing;
        lost->of++;
        was_missing = missing;
    }
    return changes <= 1;
}

/* A single byte that is missing beside others is damage: no disk leaves out one byte. */
static bool is_torn(const uint8_t *bytes, const uint8_t *whole)
{
    unsigned missing = 0;
    bool any_gone = false;
    for (size_t at = 0; at < LW_PAGE_SIZE; at += SECTOR) {
        lost_bytes lost;
        if (!sector_is_torn(bytes + at, whole + at, &lost))
            return false;
        missing += lost.missing;
        any_gone = any_gone || (lost.missing > 0 && lost.missing == lost.of);
    }
    return any_gone || missing > 1;
}

void lw_verify_expected_mark(const lw_segment *segment, const lw_state *state, lw_page *mark)
{
    uint8_t item[LW_INDEX_ITEM_SIZE];
    uint32_t crc = 0;
    lw_segment_describe(segment, LW_CLOSE_MARK, mark);
    for (uint64_t i = 0; i < segment->index_count; i++) {
        lw_index_item_save(item, 0, segment->index_items[i]);
        crc = lw_crc32c(crc, item, sizeof item);
    }
    mark->index_check = crc;
    mark->state = *state;
    mark->watermark = (lw_position){segment->identity.number, segment->end};
}

static bool mark_is_torn(lw_verify *v)
{
    uint8_t whole[LW_PAGE_SIZE];
    lw_replay *r = &v->replay;
    lw_page mark;
    if (!v->is_tail || !v->is_whole)
        return false;
    lw_verify_expected_mark(v->segment, &r->walk.state, &mark);
    lw_page_encode(&mark, whole);
    if (is_torn(v->here.mark_bytes, whole))
        return true;
    /* The first batch after an open begins with an EPOCH, and zeroes the mark, which describes the frames before that batch. */
    if (!r->has_epoch)
        return false;
    lw_page_encode(&r->mark_at_epoch, whole);
    return is_torn(v->here.mark_bytes, whole);
}

static bool check_mark(lw_verify *v)
{
    const lw_pages *p = &v->here;
    if (p->mark_is_zero || (p->has_mark && (v->is_tail ? !v->is_closed : true)))
        return true;
    if (p->has_mark && (!v->is_whole || ends_so(v, &p->mark)))
        return true;
    if (p->has_mark)
        return add(v, LW_FOUND_CHAIN, LW_MARK_OFFSET, true, "the close mark does not say what the frames amount to") != NULL;
    if (p->file_size < LW_FRAMES_OFFSET || mark_is_torn(v))
        return true;
    return add(v, LW_FOUND_CLOSE_MARK, LW_MARK_OFFSET, false, "the close mark page is damaged; recovery does without it") != NULL;
}

static bool check_header(lw_verify *v)
{
    const lw_pages *p = &v->here;
    if (p->is_foreign) {
        bool other_log = memcmp(p->header.identity.log_id, v->log_id, LW_LOG_ID_SIZE) != 0;
        return add(v, LW_FOUND_FOREIGN_FILE, 0, true,
                   other_log ? "the file belongs to another log, and stands in the place of a segment"
                             : "the file is another segment under this one's name; give it its own name back") != NULL;
    }
    if (p->unreadable != 0)
        return lw_verify_add_unreadable(v, p->number, 0, p->unreadable) == LW_OK;
    if (lw_pages_are_cut(p))
        return add(v, LW_FOUND_SHORT_FILE, p->file_size, true, "the file is cut short; its offset index and footer are gone") !=
               NULL;
    return p->has_header || add(v, LW_FOUND_HEADER, 0, true, "the header is damaged") != NULL;
}

int lw_verify_pages(lw_verify *v)
{
    const lw_pages *p = &v->here;
    bool reads_pages = !p->is_foreign && p->unreadable == 0 && !lw_pages_are_cut(p) && lw_pages_have_room(p);
    if (!check_header(v) || (reads_pages && !check_mark(v)) ||
        (reads_pages && !v->is_tail && (!check_footer(v) || !check_successor(v))))
        return lw_verify_no_memory(v);
    if (v->reads_frames && v->replay.early_commit != 0 &&
        add(v, LW_FOUND_COMMIT, v->replay.early_commit, true, "a COMMIT knows of something durable that came after it") == NULL)
        return lw_verify_no_memory(v);
    return LW_OK;
}
