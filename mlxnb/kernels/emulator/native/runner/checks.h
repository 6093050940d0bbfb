// What every load and store of a kernel goes through: the compiler calls these before each (-fsanitize=thread).
#pragma once
#include <dlfcn.h>
#include "atomics.h"

HOT u32 place_of(void* return_address) { return u32(reinterpret_cast<uintptr_t>(return_address) - kernel_start - 1); }

// Division that rounds down, so that an offset of -1 is element -1.
static i64 floor_divide(i64 a, i64 b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

[[noreturn]] COLD void out_of_bounds(uintptr_t address, u64 bytes, bool write, u32 pc) {
  u64 slot = (address - arena) >> slot_bits;
  Finding found;
  found.kind = "out-of-bounds";
  found.pc = pc;
  found.bytes = bytes;
  found.write = write;
  place(found);
  if (slot == 0) {
    u64 k = (address - arena) >> ARRAY_BITS;
    bool known = k < u64(array_count);
    found.space = "threadgroup";
    found.name(known ? arrays[k].name : "?");
    i64 element = bytes < 4 ? i64(bytes) : 4;
    found.index = known ? floor_divide(i64(address - reinterpret_cast<uintptr_t>(arrays[k].base)), element) : 0;
    found.extent = known ? i64(arrays[k].size) / element : 0;
  } else {
    Buffer& b = buffers[slot];
    found.space = "device";
    found.name(b.name);
    found.index = floor_divide(i64(address - reinterpret_cast<uintptr_t>(b.base)), b.element);
    found.extent = i64(b.size / b.element);
  }
  add_finding(found);
  finish(false);
}
COLD void simple_finding(const char* kind, const char* space, const char* name, i64 index, u64 bytes, bool write, u32 pc) {
  Finding found;
  found.kind = kind;
  found.space = space;
  found.name(name);
  found.index = index;
  found.bytes = bytes;
  found.write = write;
  found.pc = pc;
  place(found);
  add_finding(found);
}

// Others may read the input at the same time, and Metal keeps small ones where nothing can be written.
COLD void input_written(const Buffer& b, u64 offset, u64 bytes, u32 pc) {
  simple_finding("input-written", "device", b.name, i64(offset / b.element), bytes, true, pc);
}

COLD void touch_array(uintptr_t address, u64 bytes, bool write, u32 pc) {
  u64 k = (address - arena) >> ARRAY_BITS;
  if (k >= u64(array_count)) out_of_bounds(address, bytes, write, pc);
  Array& a = arrays[k];
  u64 offset = address - reinterpret_cast<uintptr_t>(a.base);
  if (offset >= a.size || bytes > a.size - offset) out_of_bounds(address, bytes, write, pc);
  (write ? a.written : a.read) += bytes;
  fit_granule(a.cells, offset, bytes);
  u32 element = a.cells.granule;
  Access access{"threadgroup", a.name, threadgroup_phase, 0, simdgroups[current->simdgroup].threadgroup_phase,
                offset, bytes, element, address, pc};
  for (u64 i = 0; i < bytes; i += element) {
    Cell& c = a.cells.cells[offset + i];
    if (!write && c.written_in_group != group_number)
      simple_finding("uninitialised", "threadgroup", a.name, i64((offset + i) / element), bytes, false, pc);
    check_cell(c, write, access);
  }
  if (a.cells.atomics) check_against_atomics(a.cells, write, access);
}
COLD void race_in_buffer(Buffer& b, u64 offset, u64 bytes, bool write, u32 pc) {
  fit_granule(b.cells, offset, bytes);
  Access access{"device", b.name, device_phase, first_device_phase, simdgroups[current->simdgroup].device_phase,
                offset, bytes, b.element, reinterpret_cast<uintptr_t>(b.base + offset), pc};
  for (u64 i = 0; i < bytes; i += b.cells.granule) check_cell(b.cells.cells[offset + i], write, access);
  if (UNLIKELY(b.cells.atomics)) check_against_atomics(b.cells, write, access);
}

static u32 reading_group = 0;  // 1 … 63, then round again after the marks are wiped
COLD void mark_read(Buffer& b, u64 offset, u64 bytes, u32 pc) {
  u8 group = static_cast<u8>(reading_group << 2);
  bool output_only = (b.flags & (OUTPUT | INITIALISED)) == OUTPUT;
  for (u64 i = offset; i < offset + bytes; i++) {
    u8& mark = b.marks[i];
    if (UNLIKELY(output_only && !(mark & WRITTEN)))
      simple_finding("uninitialised", "device", b.name, i64(i / b.element), bytes, false, pc);
    if ((mark & 0xfc) != group) b.read_unique_per_threadgroup++;
    mark = group | (mark & WRITTEN) | READ;
  }
}
// Whether this threadgroup read all of these bytes before, in one comparison.
template <class Word> HOT bool read_before(const u8* marks) {
  Word word;
  memcpy(&word, marks, sizeof word);
  Word all = static_cast<Word>(0x0101010101010101ull);
  return (word & static_cast<Word>(all * 0xfd)) == static_cast<Word>(all * (reading_group << 2 | READ));
}
template <int LOG> HOT bool all_read_before(const u8* m) {
  if (LOG == 0) return read_before<u8>(m);
  if (LOG == 1) return read_before<u16>(m);
  if (LOG == 2) return read_before<u32>(m);
  if (LOG == 3) return read_before<u64>(m);
  return read_before<u64>(m) && read_before<u64>(m + 8);
}

template <int LOG> HOT void touch(void* pointer, bool write, bool aligned, void* return_address) {
  constexpr u64 BYTES = 1u << LOG;
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer), in_arena = address - arena;
  if (in_arena >= arena_size) return;  // private memory
  if (UNLIKELY(write_unsettled)) settle_write();
  u64 slot = in_arena >> slot_bits;
  Buffer& b = buffers[slot];
  u64 offset = address - reinterpret_cast<uintptr_t>(b.base);
  if (UNLIKELY(slot == 0 || offset >= b.allowed[LOG])) {
    if (slot) out_of_bounds(address, BYTES, write, place_of(return_address));
    return touch_array(address, BYTES, write, place_of(return_address));
  }
  if (UNLIKELY(aligned && (address & (BYTES - 1))))
    simple_finding("misaligned", "device", b.name, i64(offset / b.element), BYTES, write, place_of(return_address));
  if (write) {
    if (UNLIKELY(!(b.flags & OUTPUT))) input_written(b, offset, BYTES, place_of(return_address));
    b.written += BYTES;
    b.writes++;
    for (u64 i = 0; i < BYTES; i++) b.marks[offset + i] |= WRITTEN;
  } else {
    b.read += BYTES;
    b.reads++;
    if (!all_read_before<LOG>(b.marks + offset)) mark_read(b, offset, BYTES, place_of(return_address));
  }
  if (b.cells.cells) race_in_buffer(b, offset, BYTES, write, place_of(return_address));
}
// A structure or a block of memory, checked byte by byte and counted as one access.
static void touch_range(void* pointer, u64 bytes, bool write, void* return_address) {
  uintptr_t in_arena = reinterpret_cast<uintptr_t>(pointer) - arena;
  if (in_arena >= arena_size || !bytes) return;
  for (u64 i = 0; i < bytes; i++) touch<0>(static_cast<char*>(pointer) + i, write, false, return_address);
  Buffer& b = buffers[in_arena >> slot_bits];
  if (b.marks) (write ? b.writes : b.reads) -= bytes - 1;
}

#define CALLER __builtin_return_address(0)
#define HOOKS(n, log)                                                                     \
  EXPORT void __tsan_read##n(void* p) { touch<log>(p, false, true, CALLER); }             \
  EXPORT void __tsan_write##n(void* p) { touch<log>(p, true, true, CALLER); }             \
  EXPORT void __tsan_unaligned_read##n(void* p) { touch<log>(p, false, false, CALLER); }  \
  EXPORT void __tsan_unaligned_write##n(void* p) { touch<log>(p, true, false, CALLER); }  \
  EXPORT void __tsan_volatile_read##n(void* p) { touch<log>(p, false, true, CALLER); }    \
  EXPORT void __tsan_volatile_write##n(void* p) { touch<log>(p, true, true, CALLER); }    \
  EXPORT void __tsan_read_write##n(void* p) {                                             \
    touch<log>(p, false, true, CALLER);                                                   \
    touch<log>(p, true, true, CALLER);                                                    \
  }
HOOKS(1, 0)
HOOKS(2, 1)
HOOKS(4, 2)
HOOKS(8, 3)
HOOKS(16, 4)
EXPORT void __tsan_read_range(void* p, u64 n) { touch_range(p, n, false, CALLER); }
EXPORT void __tsan_write_range(void* p, u64 n) { touch_range(p, n, true, CALLER); }
EXPORT void* __tsan_memcpy(void* to, const void* from, u64 n) {
  touch_range(const_cast<void*>(from), n, false, CALLER);
  touch_range(to, n, true, CALLER);
  return memcpy(to, from, n);
}
EXPORT void* __tsan_memset(void* to, int value, u64 n) {
  touch_range(to, n, true, CALLER);
  return memset(to, value, n);
}
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void*) {}
EXPORT void __tsan_func_exit() {}
EXPORT void __tsan_vptr_update(void*, void*) {}
EXPORT void __tsan_vptr_read(void*) {}
