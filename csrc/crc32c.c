/*
 * The instruction takes 3 cycles and can be started every cycle, so one stream of it runs at a third of its speed. Long
 * runs are therefore cut into three lanes computed side by side, and the lanes joined: appending n zero bytes to a message
 * is a linear map of its checksum, kept as four tables of 256 for the one lane length that is used.
 */
#include "crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define LW_HARDWARE __attribute__((target("sse4.2")))
#elif defined(__aarch64__)
#include <arm_acle.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__clang__)
#define LW_HARDWARE __attribute__((target("crc")))
#else
#define LW_HARDWARE __attribute__((target("+crc")))
#endif
#endif

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define LANE ((size_t)256)

typedef uint32_t crc_function(uint32_t, const uint8_t *, size_t);

static uint32_t byte_table[8][256];
static crc_function *implementation;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t by_table(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low = crc ^ ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
        crc = byte_table[7][low & 0xff] ^ byte_table[6][low >> 8 & 0xff] ^ byte_table[5][low >> 16 & 0xff] ^
              byte_table[4][low >> 24] ^ byte_table[3][at[4]] ^ byte_table[2][at[5]] ^ byte_table[1][at[6]] ^
              byte_table[0][at[7]];
    }
    for (; size > 0; at++, size--)
        crc = crc >> 8 ^ byte_table[0][(crc ^ *at) & 0xff];
    return crc;
}

#ifdef LW_HARDWARE

static uint32_t lane_table[4][256];

#if defined(__x86_64__)
#define STEP8(crc, value) ((uint32_t)_mm_crc32_u64((crc), (value)))
#define STEP4(crc, value) _mm_crc32_u32((crc), (value))
#define STEP1(crc, value) _mm_crc32_u8((crc), (value))

static bool has_hardware(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
#define STEP8(crc, value) __crc32cd((crc), (value))
#define STEP4(crc, value) __crc32cw((crc), (value))
#define STEP1(crc, value) __crc32cb((crc), (value))

static bool has_hardware(void)
{
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; /* HWCAP_CRC32 */
#else
    return true; /* every 64-bit Apple processor has it */
#endif
}
#endif

static uint32_t append_lane_of_zeros(uint32_t crc)
{
    return lane_table[0][crc & 0xff] ^ lane_table[1][crc >> 8 & 0xff] ^ lane_table[2][crc >> 16 & 0xff] ^
           lane_table[3][crc >> 24];
}

LW_HARDWARE static uint32_t by_hardware(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 3 * LANE; at += 3 * LANE, size -= 3 * LANE) {
        uint32_t second = 0;
        uint32_t third = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            crc = STEP8(crc, load64(at + i));
            second = STEP8(second, load64(at + LANE + i));
            third = STEP8(third, load64(at + 2 * LANE + i));
        }
        crc = append_lane_of_zeros(append_lane_of_zeros(crc) ^ second) ^ third;
    }
    for (; size >= 8; at += 8, size -= 8)
        crc = STEP8(crc, load64(at));
    if (size >= 4) { /* the end of every frame header */
        crc = STEP4(crc, load32(at));
        at += 4;
        size -= 4;
    }
    for (; size > 0; at++, size--)
        crc = STEP1(crc, *at);
    return crc;
}

static void make_lane_table(void)
{
    static const uint8_t zeros[LANE];
    for (uint32_t byte = 0; byte < 256; byte++)
        for (unsigned lane = 0; lane < 4; lane++)
            lane_table[lane][byte] = by_table(byte << 8 * lane, zeros, LANE);
}

#endif

static void choose(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        byte_table[0][byte] = crc;
    }
    for (unsigned table = 1; table < 8; table++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t before = byte_table[table - 1][byte];
            byte_table[table][byte] = before >> 8 ^ byte_table[0][before & 0xff];
        }
    crc_function *chosen = by_table;
#ifdef LW_HARDWARE
    if (has_hardware()) {
        make_lane_table();
        chosen = by_hardware;
    }
#endif
    __atomic_store_n(&implementation, chosen, __ATOMIC_RELEASE);
}

uint32_t lw_crc32c(uint32_t crc, const void *data, size_t size)
{
    crc_function *chosen = __atomic_load_n(&implementation, __ATOMIC_ACQUIRE);
    if (chosen == NULL) {
        (void)pthread_once(&once, choose);
        chosen = implementation;
    }
    return ~chosen(~crc, data, size);
}

uint32_t lw_crc32c_portable(uint32_t crc, const void *data, size_t size)
{
    (void)pthread_once(&once, choose);
    return ~by_table(~crc, data, size);
}
