// Call-outs of -fsanitize=bounds and integer-divide-by-zero, atomics, fences and threadgroup arrays.
#pragma once
#include "checks.h"

struct SourceLocation {
  const char* file;
  u32 line, column;
};
struct TypeDescription {
  u16 kind, info;
  char name[1];
};
struct OutOfBounds {
  SourceLocation where;
  const TypeDescription *array, *index;
};
struct Overflow {
  SourceLocation where;
  const TypeDescription* type;
};

// An array's own bounds: private arrays, and those whose size the compiler knows. The access itself has not happened.
static void beyond_array(const OutOfBounds* data, i64 index) {
  Finding found;
  found.kind = "out-of-bounds";
  found.space = "array";
  found.name(data->array->name);
  found.where = Where{data->where.file, int(data->where.line)};
  found.index = index;
  place(found);
  add_finding(found);
  finish(false);
}
static void divided_by_zero(const Overflow* data, u64 divisor) {
  Finding found;
  found.kind = "division-by-zero";
  found.name(data->type->name);
  found.where = Where{data->where.file, int(data->where.line)};
  found.index = i64(divisor);
  place(found);
  add_finding(found);
  finish(false);
}
EXPORT void __ubsan_handle_out_of_bounds(OutOfBounds* data, u64 index) { beyond_array(data, i64(index)); }
EXPORT void __ubsan_handle_out_of_bounds_abort(OutOfBounds* data, u64 index) { beyond_array(data, i64(index)); }
EXPORT void __ubsan_handle_divrem_overflow(Overflow* data, u64, u64 divisor) { divided_by_zero(data, divisor); }
EXPORT void __ubsan_handle_divrem_overflow_abort(Overflow* data, u64, u64 divisor) { divided_by_zero(data, divisor); }

EXPORT void msl_fence() { fenced = true; }
// An atomic access is checked for its bounds and counted, and is judged against others in atomics.h.
EXPORT void msl_atomic(const void* pointer, size_t bytes, int reads, int writes, void* return_address) {
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer), in_arena = address - arena;
  if (in_arena >= arena_size) return;
  if (UNLIKELY(write_unsettled)) settle_write();
  u32 pc = place_of(return_address);
  if (in_arena >> slot_bits == 0) {
    u64 k = in_arena >> ARRAY_BITS, offset = k < u64(array_count) ? address - reinterpret_cast<uintptr_t>(arrays[k].base) : 0;
    if (k >= u64(array_count) || offset >= arrays[k].size) out_of_bounds(address, bytes, writes, pc);
    Cells& c = arrays[k].cells;
    if (!c.cells) return;
    fit_granule(c, offset, bytes);
    for (u64 i = 0; i < bytes; i += c.granule) {
      if (reads && c.cells[offset + i].written_in_group != group_number)
        simple_finding("uninitialised", "threadgroup", arrays[k].name, i64(offset / bytes), bytes, false, pc);
      if (writes) c.cells[offset + i].written_in_group = group_number;
    }
    check_atomic(c, AtomicKind(reads + 2 * writes),
                 Access{"threadgroup", arrays[k].name, threadgroup_phase, 0, simdgroups[current->simdgroup].threadgroup_phase,
                        offset, bytes, c.granule, address, pc});
    return;
  }
  Buffer& b = buffers[in_arena >> slot_bits];
  u64 offset = address - reinterpret_cast<uintptr_t>(b.base);
  if (offset >= b.size || bytes > b.size - offset) out_of_bounds(address, bytes, writes, pc);
  if (!b.marks) return;
  if (reads) b.read += bytes, b.reads++, mark_read(b, offset, bytes, pc);
  if (writes) b.written += bytes, b.writes++;
  for (u64 i = 0; writes && i < bytes; i++) b.marks[offset + i] |= WRITTEN;
  if (writes && !(b.flags & OUTPUT)) input_written(b, offset, bytes, pc);
  if (!b.cells.cells) return;
  fit_granule(b.cells, offset, bytes);
  check_atomic(b.cells, AtomicKind(reads + 2 * writes),
               Access{"device", b.name, device_phase, first_device_phase, simdgroups[current->simdgroup].device_phase, offset,
                      bytes, b.element, address, pc});
}

static bool checking;
EXPORT void* msl_threadgroup_memory(const void* key, size_t size, const char* name) {
  for (int i = 0; i < array_count; i++)
    if (arrays[i].key == key) return arrays[i].base;
  Finding found;
  found.kind = "threadgroup-memory";
  found.name(name);
  array_bytes += size;
  found.index = i64(array_bytes);
  found.pc = place_of(CALLER);
  place(found);
  if (array_bytes > 32768 || array_count == MOST_ARRAYS) add_finding(found), finish(false);
  Array& a = arrays[array_count];
  char* middle = reinterpret_cast<char*>(arena + (u64(array_count) << ARRAY_BITS) + (1u << (ARRAY_BITS - 1)));
  u64 mapped = whole_pages(size);
  mprotect(middle, mapped, PROT_READ | PROT_WRITE);
  a = Array{key, middle + ((mapped - size) & ~u64(15)), size, 0, 0, name, Cells{}};
  if (checking) a.cells = Cells{static_cast<Cell*>(calloc(size, sizeof(Cell))), size, 0};
  memset(a.base, 0xff, size);
  array_count++;
  return a.base;
}
