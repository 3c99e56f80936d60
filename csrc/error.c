#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void begin(lw_error *error, int status, const char *file)
{
    memset(error, 0, sizeof *error);
    error->status = status;
    if (file != NULL)
        (void)snprintf(error->file, sizeof error->file, "%s", file);
}

static void describe(lw_error *error, const char *format, va_list arguments)
{
    (void)vsnprintf(error->detail, sizeof error->detail, format, arguments);
}

int lw_fail(lw_error *error, int status, const char *format, ...)
{
    va_list arguments;
    begin(error, status, NULL);
    va_start(arguments, format);
    describe(error, format, arguments);
    va_end(arguments);
    return status;
}

int lw_fail_file(lw_error *error, int status, const char *file, const char *what)
{
    begin(error, status, file);
    (void)snprintf(error->detail, sizeof error->detail, "%s", what);
    return status;
}

int lw_fail_errno(lw_error *error, int sys_errno, const char *file, const char *what)
{
    int status = sys_errno == ENOSPC || sys_errno == EDQUOT ? LW_DISK_FULL : sys_errno == ENOMEM ? LW_NO_MEMORY : LW_IO;
    begin(error, status, file);
    error->sys_errno = sys_errno;
    (void)snprintf(error->detail, sizeof error->detail, "%s: %s", what, strerror(sys_errno));
    return status;
}

int lw_fail_system(lw_error *error, int status, int sys_errno, const char *file, const char *text)
{
    (void)lw_fail_file(error, status, file, text);
    error->sys_errno = sys_errno;
    return status;
}

int lw_fail_sync(lw_error *error, int sys_errno, const char *file, const char *what)
{
    if (lw_fail_errno(error, sys_errno, file, what) == LW_IO)
        error->status = LW_SYNC_FAILED;
    return error->status;
}

int lw_fail_index(lw_error *error, int status, uint64_t index, const char *format, ...)
{
    va_list arguments;
    begin(error, status, NULL);
    error->has_index = 1;
    error->index = error->last_index = index;
    va_start(arguments, format);
    describe(error, format, arguments);
    va_end(arguments);
    return status;
}

int lw_fail_corrupt(lw_error *error, const char *file, uint64_t offset, uint64_t first, uint64_t last, const char *format,
                    ...)
{
    va_list arguments;
    begin(error, LW_CORRUPTION, file);
    error->has_offset = 1;
    error->offset = offset;
    error->has_index = first <= last;
    error->index = first;
    error->last_index = last;
    va_start(arguments, format);
    describe(error, format, arguments);
    va_end(arguments);
    return LW_CORRUPTION;
}
