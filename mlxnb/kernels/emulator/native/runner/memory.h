// Where a kernel's buffers and threadgroup arrays lie, and what is noted about every byte of them.
#pragma once
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "findings.h"

// Each buffer has a slot of address space to itself with its data in the middle, so that a wild index stays inside its
// own slot and every address tells the buffer it was meant for. Slot 0 holds the threadgroup arrays, 16 MiB apart.
constexpr int MOST_BUFFERS = 63, MOST_ARRAYS = 64, ARRAY_BITS = 24;
static uintptr_t arena;
static u64 arena_size;
static int slot_bits;
static u64 page;

enum BufferFlags { OUTPUT = 1, INITIALISED = 2 };
enum ByteMarks : u8 { READ = 1, WRITTEN = 2 };  // the six bits above them: which threadgroup read the byte last

// Who touched a few neighbouring bytes last, and where. Phases count up at each barrier; 0 is never.
struct Touch {
  u32 phase, pc;
  u16 by, simd_phase;
};
struct Cell {
  Touch write, read;
  u32 written_in_group;
};
// Four bytes that atomic functions touched.
struct AtomicCell {
  Touch changed, stored, loaded;  // changed: read and written in one, as atomic_fetch_add does
};
struct Cells {
  Cell* cells;
  u64 size;
  u32 granule;          // bytes a cell; 0 before the first access
  AtomicCell* atomics;  // null before the first
};

struct Buffer {
  char* base;
  u64 size;
  u64 allowed[5];  // allowed[k]: at how many offsets an access of 2^k bytes may begin
  u8* marks;       // a byte for every byte
  Cells cells;     // outputs only: nobody writes to the others
  u64 read, written, reads, writes, read_unique_per_threadgroup;
  u32 element, flags;
  char name[64];
};
static Buffer buffers[MOST_BUFFERS + 1];
static int buffer_count;

struct Array {
  const void* key;
  char* base;
  u64 size, read, written;
  const char* name;
  Cells cells;
};
static Array arrays[MOST_ARRAYS];
static int array_count;
static u64 array_bytes;

static u64 whole_pages(u64 bytes) { return (bytes + page - 1) & ~(page - 1); }

// Reserves a slot for every buffer: 64 GiB each, less where the process may not have that much address space.
static bool reserve_arena(int slots) {
  for (slot_bits = 36; slot_bits >= 31; slot_bits--) {
    arena_size = u64(slots) << slot_bits;
    void* place = mmap(nullptr, arena_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) continue;
    arena = reinterpret_cast<uintptr_t>(place);
    return true;
  }
  return false;
}
HOT char* slot_middle(u64 slot) { return reinterpret_cast<char*>(arena + (slot << slot_bits) + (1ull << (slot_bits - 1))); }

// The data comes from a file shared with the parent and ends where its last page ends (but for the alignment).
static bool map_buffer(int slot, int file, u64 offset, bool checks) {
  Buffer& b = buffers[slot];
  u64 mapped = whole_pages(b.size);
  char* start = slot_middle(slot);
  b.base = start + ((mapped - b.size) & ~u64(15));
  int sharing = b.flags & OUTPUT ? MAP_SHARED : MAP_PRIVATE;
  if (mapped && mmap(start, mapped, PROT_READ | PROT_WRITE, sharing | MAP_FIXED, file, offset) == MAP_FAILED) return false;
  if (!checks) return true;
  for (int k = 0; k < 5; k++) b.allowed[k] = b.size >= (1u << k) ? b.size - (1u << k) + 1 : 0;
  b.marks = static_cast<u8*>(calloc(b.size + 16, 1));
  if (b.flags & OUTPUT) b.cells = Cells{static_cast<Cell*>(calloc(b.size + 1, sizeof(Cell))), b.size, 0};
  return b.marks && (b.cells.cells || !(b.flags & OUTPUT));
}

// A finer access than before: what is known of a cell goes for all of its parts.
COLD void refine(Cells& c, u32 granule) {
  for (u64 i = 0; i < c.size; i += c.granule)
    for (u32 j = granule; j < c.granule; j += granule)
      if (i + j < c.size) c.cells[i + j] = c.cells[i];
  c.granule = granule;
}
HOT void fit_granule(Cells& c, u64 offset, u64 size) {
  u32 granule = size < 4 ? static_cast<u32>(size) : 4;
  if (offset & (granule - 1)) granule = 1;
  if (UNLIKELY(!c.granule)) c.granule = granule;
  if (UNLIKELY(granule < c.granule)) refine(c, granule);
}
