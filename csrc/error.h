/* Filling an lw_error: each function returns the status, so that a failure is one line. */
#ifndef LW_ERROR_H
#define LW_ERROR_H

#include "logwal.h"

#define LW_PRINTF(text, first) __attribute__((format(printf, text, first)))

LW_PRINTF(3, 4) int lw_fail(lw_error *, int status, const char *format, ...);
int lw_fail_file(lw_error *, int status, const char *file, const char *what);
/* The status follows from the errno value: disk full, no memory, else LW_IO. `file` may be NULL. */
int lw_fail_errno(lw_error *, int sys_errno, const char *file, const char *what);
/* The status is told, and the text is whole: the system's own words are not appended to it. */
int lw_fail_system(lw_error *, int status, int sys_errno, const char *file, const char *text);
/* The same for an fdatasync, or a directory's: LW_SYNC_FAILED in place of LW_IO. */
int lw_fail_sync(lw_error *, int sys_errno, const char *file, const char *what);
LW_PRINTF(4, 5) int lw_fail_index(lw_error *, int status, uint64_t index, const char *format, ...);
/* CorruptionError's: file, byte offset in it, and the range of indices that is lost (first > last: none is known). */
LW_PRINTF(6, 7)
int lw_fail_corrupt(lw_error *, const char *file, uint64_t offset, uint64_t first, uint64_t last, const char *format, ...);

#endif
