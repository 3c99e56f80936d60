/* CRC32C (Castagnoli), by hardware where the processor has it, by table otherwise. */
#ifndef LW_CRC32C_H
#define LW_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `size` bytes at `data`, continued from `crc` (0 to begin). Any alignment, any thread. */
uint32_t lw_crc32c(uint32_t crc, const void *data, size_t size);

/* The same by table alone: what processors without the instruction use, and what tests compare against. */
uint32_t lw_crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
