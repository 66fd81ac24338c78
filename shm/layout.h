/*
 * The shared memory word by word, the atomic accesses to it, and the process's view of it. Included by shm/
 * sources and the tests of shm/ only.
 *
 * The segment (every part starts on a page; P is the page size)
 *
 *   offset            part                           master  worker
 *   0                 struct layout_header           rw      r       written once, before any worker lives
 *   control_offset    struct layout_control          rw      r       ring tail, uplink heads, host state
 *   doorbell_offset   struct layout_doorbell         rw      rw      the words that every worker may write
 *   table_offset      struct layout_entry [slots]    rw      r       ... its own entry: rw
 *   ring_offset       ring data, ring_bytes          rw      r
 *   uplinks_offset    uplink data, uplink_bytes each rw      -       ... its own uplink: rw
 *
 *   So a worker that goes mad can spoil its own entry, its own uplink and the doorbell. The master believes
 * none of the three: a ring cell that can't be true counts as a whole ring behind (the worker is then
 * replaced as stuck), uplink lengths are checked and copied out before use, and the doorbell is only a hint
 * to wake up.
 *
 * Positions
 *
 *   A position counts the bytes ever written to a ring (64 bits: 100 years at 5 GB/s). It is the sequence
 * number as well: there is no second counter that could disagree with it when a process dies between two
 * stores. The byte of position p lies at offset p & (capacity - 1); capacities are powers of two.
 *
 *            cell of the slowest reader          tail
 *   ... free |######## may still be read ########| free ...     always: tail - cell <= capacity
 *
 * A record (in the ring and in an uplink; starts on a multiple of 8)
 *
 *   0        4        8
 *   | type   | length | body, length bytes | 0..7 unused bytes |
 *     u32      u32
 *
 *   No record wraps: where the next one doesn't fit before the end, a pad record (type 0, length up to the
 * end) comes first. Pad and record become visible by the same store of the tail. Header and body are plain
 * memory: the tail publishes them, the cell gives them back, and ThreadSanitizer can see whether that holds.
 *
 * Lines
 *
 *   Words that different processes write lie 128 bytes apart: two cache lines, because the adjacent-line
 * prefetcher of x86 pulls them in pairs, and one line of an ARM server core.
 */
#ifndef OPALD_SHM_LAYOUT_H
#define OPALD_SHM_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/counters.h"
#include "shm/figures.h"
#include "shm/segment.h"

#define LAYOUT_MAGIC          UINT64_C(0x314d48534c41504f) /* "OPALSHM1" in memory, little endian */
#define LAYOUT_VERSION        3u
#define LAYOUT_LINE           128
#define LAYOUT_FANOUT_BUCKETS 16
#define LAYOUT_HTTP_CELLS     736 /* 32 routes, 23 statuses */
#define LAYOUT_LOAD_WINDOWS   8
#define LAYOUT_RING_MIN       (UINT64_C(64) << 10)
#define LAYOUT_RING_MAX       (UINT64_C(16) << 30) /* an eighth still fits a record's u32 length */
#define LAYOUT_UPLINK_MIN     (UINT64_C(4) << 10)
#define LAYOUT_UPLINK_MAX     (UINT64_C(4) << 30) /* half still fits */

struct layout_header {
    uint64_t magic;
    uint32_t version;
    uint32_t slots;
    uint32_t page_bytes;
    /* bytes from one table entry to the next */
    uint32_t entry_stride;
    /* a worker of another build must not attach */
    uint32_t counter_count;
    uint32_t reserved;
    uint64_t ring_bytes;
    uint64_t uplink_bytes;
    uint64_t control_offset;
    uint64_t doorbell_offset;
    uint64_t table_offset;
    uint64_t ring_offset;
    uint64_t uplinks_offset;
    uint64_t total_bytes;
};

struct layout_line {
    alignas(LAYOUT_LINE) _Atomic uint64_t value;
};

struct layout_control {
    /* position after the last published record */
    alignas(LAYOUT_LINE) _Atomic uint64_t ring_tail;
    alignas(LAYOUT_LINE) _Atomic uint64_t event_limit;
    _Atomic uint64_t messages_limit;
    _Atomic uint32_t backbone_state;
    _Atomic uint32_t backbone_trouble;
    _Atomic uint64_t backbone_pending_events;
    _Atomic uint64_t backbone_pending_ns;
    _Atomic uint64_t backbone_lag;
    /* up to the last return */
    _Atomic uint64_t backbone_away_ns;
    /* 0: it is there, or there is none */
    _Atomic uint64_t backbone_away_since_ns;
    /* 0: none yet */
    _Atomic uint64_t master_heartbeat_ns;
    /* up to here the master has given the uplink's memory back */
    struct layout_line uplink_head[SEGMENT_SLOTS_MAX];
    /* the master's */
    alignas(LAYOUT_LINE) _Atomic uint64_t counters[COUNTER_COUNT];
};

struct layout_doorbell {
    /* 0: the master is awake. Else the number of its sleep, a new one each time (why: uplink.c). */
    alignas(LAYOUT_LINE) _Atomic uint64_t asleep;
    /* shm/load_limit.h */
    alignas(LAYOUT_LINE) _Atomic uint64_t load_window[LAYOUT_LOAD_WINDOWS];
};

struct layout_entry {
    /* the worker: up to here it has given the ring's memory back */
    alignas(LAYOUT_LINE) _Atomic uint64_t ring_cell;
    /* 1: the worker sleeps on its eventfd, or is about to */
    alignas(LAYOUT_LINE) _Atomic uint32_t ring_asleep;
    /* the worker: position after its last committed record */
    alignas(LAYOUT_LINE) _Atomic uint64_t uplink_tail;
    /* the master: this reader holds up the writer */
    alignas(LAYOUT_LINE) _Atomic uint32_t ring_active;
    /* enum worker_state */
    _Atomic uint32_t state;
    _Atomic int32_t pid;
    _Atomic uint32_t incarnation;
    /* the worker */
    alignas(LAYOUT_LINE) _Atomic uint64_t heartbeat_ns;
    _Atomic uint32_t connections;
    _Atomic int32_t child_group;
    /* the worker's */
    alignas(LAYOUT_LINE) _Atomic uint64_t counters[COUNTER_COUNT];
    /* from here on: shm/figures.h */
    _Atomic uint64_t gauges[GAUGE_COUNT];
    _Atomic uint64_t fanout_buckets[LAYOUT_FANOUT_BUCKETS + 1];
    _Atomic uint64_t fanout_sum_ns;
    _Atomic uint64_t http[LAYOUT_HTTP_CELLS];
};

struct layout_record {
    uint32_t type;
    uint32_t length;
};

static_assert(
    ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics must work between processes");
static_assert(
    sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "atomics must have no hidden lock");
static_assert(sizeof(struct layout_record) == 8, "record header is drawn as 8 bytes");
static_assert(offsetof(struct layout_entry, ring_asleep) == LAYOUT_LINE, "one writer a line");
static_assert(offsetof(struct layout_control, event_limit) == LAYOUT_LINE, "the tail has its line alone");

/* Bytes a record with a body of `length` takes. 64 bits, so that no length can make it wrap. */
static inline uint64_t layout_record_size(uint32_t length)
{
    return sizeof(struct layout_record) + (((uint64_t)length + 7) & ~UINT64_C(7));
}

/*
 * The atomic accesses. No other memory order is used on these words, and there are no fences.
 *
 *   the ring's records       A0 writer stores tail, release
 *                            A1 reader loads tail, acquire; synchronizes with A0
 *   the ring's free memory   B0 reader stores its cell, release
 *                            B1 writer loads a cell, acquire; synchronizes with B0
 *   the reader's sleep       C0 writer stores tail once more
 *                            C1 writer loads asleep, exchanges it to 0
 *                            C2 reader exchanges asleep to 1
 *                            C3 reader loads tail once more
 *                            All four are sequentially consistent, so they have one order. Either C1 comes
 *                            after C2: the writer sees the sleeper and wakes it. Or C1 comes before C2, then
 *                            C0 comes before C3: the reader sees the record and doesn't sleep.
 *   an uplink's records      D0 worker stores uplink tail
 *                            D1 master loads it, acquire; synchronizes with D0
 *   an uplink's free memory  E0 master stores uplink head, release
 *                            E1 worker loads it, acquire; synchronizes with E0
 *   the master's sleep       F1 worker loads asleep, after D0
 *                            F2 master stores its sleep's number
 *                            F3 master loads the tails
 *                            D0, F1, F2, F3 are sequentially consistent as C0 to C3 are (D0 plays C0, so
 *                            D0 is more than a release).
 *   a slot's past            G0 master stores cell, flags, state ...
 *                            G1 the worker reads them after fork and exec, which order it
 *   figures                  relaxed: each stands for itself (counters, heartbeat, connections)
 *   the load limit's windows relaxed: one word each, moved by compare-and-exchange; it publishes nothing else
 *
 * SHM_MUTATE_... break one of them each, for tests/stress/mutations.sh only: a test that passes all the same
 * is no test.
 */
#ifdef SHM_MUTATE_TAIL_RELAXED
#define ORDER_A0_TAIL_STORE memory_order_relaxed
#else
#define ORDER_A0_TAIL_STORE memory_order_release
#endif
#define ORDER_A1_TAIL_LOAD memory_order_acquire
#ifdef SHM_MUTATE_CELL_RELAXED
#define ORDER_B0_CELL_STORE memory_order_relaxed
#else
#define ORDER_B0_CELL_STORE memory_order_release
#endif
#define ORDER_B1_CELL_LOAD memory_order_acquire
#ifdef SHM_MUTATE_TAIL_AGAINST_ASLEEP
#define ORDER_C0_TAIL_AGAIN memory_order_release
#else
#define ORDER_C0_TAIL_AGAIN memory_order_seq_cst
#endif
#define ORDER_C1_ASLEEP_SEEN memory_order_seq_cst
#define ORDER_C2_ASLEEP_SET  memory_order_seq_cst
#define ORDER_C3_TAIL_LOOK   memory_order_seq_cst
#ifdef SHM_MUTATE_UPLINK_RELAXED
#define ORDER_D0_UPLINK_STORE memory_order_relaxed
#elif defined(SHM_MUTATE_UPLINK_AGAINST_SLEEP)
#define ORDER_D0_UPLINK_STORE memory_order_release
#else
#define ORDER_D0_UPLINK_STORE memory_order_seq_cst
#endif
#define ORDER_D1_UPLINK_LOAD memory_order_acquire
#ifdef SHM_MUTATE_HEAD_RELAXED
#define ORDER_E0_HEAD_STORE memory_order_relaxed
#else
#define ORDER_E0_HEAD_STORE memory_order_release
#endif
#define ORDER_E1_HEAD_LOAD  memory_order_acquire
#define ORDER_F1_SLEEP_SEEN memory_order_seq_cst
#ifdef SHM_MUTATE_SLEEP_AGAINST_UPLINK
#define ORDER_F2_SLEEP_SET memory_order_release
#else
#define ORDER_F2_SLEEP_SET memory_order_seq_cst
#endif
#define ORDER_F3_UPLINK_LOOK memory_order_seq_cst
#define ORDER_G0_SLOT_STORE  memory_order_release
#define ORDER_G1_SLOT_LOAD   memory_order_acquire
#define ORDER_LOAD_WINDOW    memory_order_relaxed
#define ORDER_FIGURE         memory_order_relaxed
/* A word that only this process writes, or that nobody else touches now: there is nothing to order. */
#define ORDER_OWN memory_order_relaxed

#ifdef SHM_MUTATE_NO_SLOWEST
#define LAYOUT_CHECKS_SLOWEST false
#else
#define LAYOUT_CHECKS_SLOWEST true
#endif
#ifdef SHM_MUTATE_NO_SECOND_LOOK
#define LAYOUT_LOOKS_TWICE false
#else
#define LAYOUT_LOOKS_TWICE true
#endif
#ifdef SHM_MUTATE_MASTER_NO_SECOND_LOOK
#define LAYOUT_MASTER_LOOKS_TWICE false
#else
#define LAYOUT_MASTER_LOOKS_TWICE true
#endif

/*
 * Every place between two stores (or a load and a store) where a process may die or be stopped. Empty in the
 * program; the stress build (-DSHM_POINTS) calls shm_point, which tests/stress/ring_kill.c defines.
 */
#define SHM_POINT_LIST(POINT) \
    POINT(WRITER_PADDED)    /* pad header written, record header not */ \
    POINT(WRITER_RESERVED)  /* headers written, body not */ \
    POINT(WRITER_FILLED)    /* body written, tail not */ \
    POINT(WRITER_PUBLISHED) /* tail stored, nobody woken */ \
    POINT(WRITER_WAKING)    /* tail stored again */ \
    POINT(WRITER_WON)       /* asleep exchanged to 0, eventfd not written */ \
    POINT(WRITER_WOKE)      /* eventfd written */ \
    POINT(READER_LOOKED)    /* tail loaded */ \
    POINT(READER_READ)      /* record header read */ \
    POINT(READER_RELEASING) /* body read, cell not stored */ \
    POINT(READER_RELEASED)  /* cell stored */ \
    POINT(READER_LYING)     /* asleep set, tail not looked at again */ \
    POINT(READER_ROSE)      /* asleep taken back */ \
    POINT(READER_ASLEEP)    /* looked twice, about to wait */ \
    POINT(READER_AWAKE)     /* eventfd consumed */ \
    POINT(UPLINK_PADDED) \
    POINT(UPLINK_RESERVED) \
    POINT(UPLINK_FILLED) \
    POINT(UPLINK_COMMITTED) /* tail stored, doorbell not looked at */ \
    POINT(UPLINK_RINGING)   /* the master sleeps, eventfd not written */ \
    POINT(UPLINK_RANG)      /* eventfd written, asleep not cleared */ \
    POINT(UPLINK_DONE)

enum shm_point {
#define SHM_POINT_ENUMERATOR(name) SHM_POINT_##name,
    SHM_POINT_LIST(SHM_POINT_ENUMERATOR)
#undef SHM_POINT_ENUMERATOR
        SHM_POINT_COUNT
};

#ifdef SHM_POINTS
void shm_point(enum shm_point point);
#define SHM_POINT(name) shm_point(SHM_POINT_##name)
#else
#define SHM_POINT(name) ((void)0)
#endif

/* ---- this process's view ---- */

#define SEGMENT_MAGIC 0x5e63e17au

/* How far the master has read an uplink. It lives here and not in shared memory, where the worker could spoil
 * it. */
struct segment_uplink_state {
    /* position after the last record returned */
    uint64_t read;
    /* = the head in shared memory */
    uint64_t released;
    bool prepared;
    /* until the slot is prepared for another worker */
    bool corrupt;
};

struct segment {
    uint32_t magic;
    bool is_master;
    /* a worker's own */
    unsigned slot;
    unsigned slots;
    uint64_t ring_bytes;
    uint64_t uplink_bytes;
    uint64_t uplinks_offset;
    size_t page_bytes;
    size_t entry_stride;
    /* Mapped memory. A worker's pointers through `control`, other entries and `ring` may only be read. */
    unsigned char *base;
    size_t base_bytes;
    /* master: of slot 0; worker: its own, a mapping by itself */
    unsigned char *uplinks;
    size_t uplinks_mapped;
    struct layout_control *control;
    struct layout_doorbell *doorbell_line;
    unsigned char *table;
    unsigned char *ring;
    /* -1 in a worker */
    int memory;
    int doorbell;
    /* -1 where there is none */
    int wake[SEGMENT_SLOTS_MAX];
    /* master: number of its last sleep */
    uint64_t sleeps;
    /* master */
    struct segment_uplink_state uplink_state[SEGMENT_SLOTS_MAX];
};

/* Aborts with a line on stderr: a broken promise of the caller or of memory, never something a peer can
 * cause. */
void segment_fail(const char *what) __attribute__((noreturn));
void segment_check(const struct segment *segment);
struct layout_entry *segment_entry(const struct segment *segment, unsigned slot);
unsigned char *segment_uplink(const struct segment *segment, unsigned slot);
/* Backs a part of the memory with pages, so that a write to it can't end in SIGBUS. 0, or an errno value. */
int segment_allocate(const struct segment *segment, uint64_t offset, uint64_t bytes);
/* Adds one to an eventfd / empties it; never blocks, EINTR is handled. */
void segment_eventfd_write(int fd);
void segment_eventfd_drain(int fd);
#endif
