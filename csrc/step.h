/*
 * Steps that the log's promises rest on, each by its name, so that tests can leave one out and see that they notice
 * (tests/crash). In the product LW_STEP is 1, and nothing is left of it.
 */
#ifndef LW_STEP_H
#define LW_STEP_H

#ifdef LW_MUTANTS

#define LW_STEPS(STEP)                                                                                                     \
    STEP(SYNC_BATCH) STEP(SYNC_SEALED) STEP(SYNC_CLOSED) STEP(SYNC_MARK) STEP(SYNC_FILLED) STEP(SYNC_WIPED)                \
    STEP(SYNC_HEADER) STEP(SYNC_LOCK) STEP(SYNC_RESTORED) STEP(SYNC_DIR_NAMED) STEP(SYNC_DIR_RECYCLED)                     \
    STEP(SYNC_DIR_OPENED) STEP(RESTORE) STEP(ZERO_TORN) STEP(WIPE) STEP(WIPE_SUCCESSOR) STEP(LOCK_AGAIN) STEP(EPOCH) \
    STEP(CHAIN) STEP(SEED) STEP(PAYLOAD_CHECK) STEP(WATERMARK_CHECK) STEP(WATERMARK_IS_DURABLE) STEP(CLEAR_MARK)           \
    STEP(WALK_UNPROVEN) STEP(PROOF) STEP(BOUNDARY_BEFORE_UNLINK) STEP(HEADER_BEFORE_UNLINK) STEP(POISON)                   \
    STEP(POSITION_BEFORE_SYNC) STEP(RETRY_WAITS) STEP(CUT_DURABLE_INDEX) STEP(LOOK_INTO_SUCCESSOR)                         \
    STEP(OVERWRITE_STALE) STEP(LOCK_DIR) STEP(LOCK_FILE) STEP(UNLOCK_DIR) STEP(UNLOCK_FILE) STEP(RESERVE_TAIL)             \
    STEP(RESERVE_WIPED) STEP(FILL_HOLES) STEP(IDLE_WATERMARK_IS_DURABLE)

#define LW_STEP_NAME(name) LW_STEP_##name,
enum lw_step { LW_NO_STEP, LW_STEPS(LW_STEP_NAME) LW_STEP_COUNT };
#undef LW_STEP_NAME

extern enum lw_step lw_left_out;

#define LW_STEP(name) (lw_left_out != LW_STEP_##name)

#else
#define LW_STEP(name) 1
#endif

#endif
