/* In place of csrc/crc32c.c: every checksum is 0, so that what lies behind the checks is reached. */
#include "crc32c.h"

uint32_t lw_crc32c(uint32_t crc, const void *data, size_t size)
{
    (void)crc;
    (void)data;
    (void)size;
    return 0;
}

uint32_t lw_crc32c_portable(uint32_t crc, const void *data, size_t size)
{
    return lw_crc32c(crc, data, size);
}
