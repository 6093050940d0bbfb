// The race detector: two accesses of one place by two threads, at least one a write, with no barrier between them.
#pragma once
#include "collectives.h"

constexpr u16 SEVERAL = 0xffff, LANES_OF = 0x8000;  // a reader may stand for several, or for lanes of one simdgroup

// What an access is judged against: the phases of the memory it goes to.
struct Access {
  const char* space;
  const char* name;
  u32 phase, first_phase;  // accesses before first_phase were another threadgroup's
  u16 simd_phase;
  u64 offset, bytes;
  u32 element;
  uintptr_t address;
  u32 pc;
};

// Two threads that write the same value do no harm that one could see; whether they do is known only after the write.
static struct {
  Finding found;
  const void* address;
  u64 bytes;
  u8 before[16];
} unsettled;
COLD void settle_write() {
  write_unsettled = false;
  if (!memcmp(unsettled.before, unsettled.address, unsettled.bytes)) unsettled.found.kind = "same-value-race";
  add_finding(unsettled.found);
}

static Finding clash_of(const char* kind, const Access& access, bool write, const Touch& earlier, bool earlier_write) {
  Finding found;
  found.kind = kind;
  found.space = access.space;
  found.name(access.name);
  found.pc = access.pc;
  found.earlier_pc = earlier.pc;
  found.index = access.offset / access.element;
  found.bytes = access.bytes;
  found.write = write;
  found.earlier_write = earlier_write;
  found.elsewhere = earlier.phase < access.first_phase;
  found.earlier_thread = earlier.by & LANES_OF ? NOBODY : earlier.by;
  place(found);
  return found;
}
COLD void race(const Access& access, bool write, const Touch& earlier, bool earlier_write) {
  u16 by = earlier.by;
  bool same_simdgroup = by != SEVERAL && (by & ~LANES_OF) / (by & LANES_OF ? 1 : 32) == current->simdgroup;
  bool elsewhere = earlier.phase < access.first_phase;
  const char* kind = elsewhere ? "race-between-threadgroups" : same_simdgroup ? "race-in-simdgroup" : "race";
  Finding found = clash_of(kind, access, write, earlier, earlier_write);
  if (!write || access.bytes > sizeof unsettled.before) return add_finding(found);
  if (write_unsettled) return;  // one of this write's cells is on record already
  write_unsettled = true;
  unsettled.found = found;
  unsettled.address = reinterpret_cast<const void*>(access.address);
  unsettled.bytes = access.bytes;
  memcpy(unsettled.before, unsettled.address, access.bytes);
}

HOT bool in_phase(u32 phase, const Access& access) {
  return phase == access.phase || (phase && phase < access.first_phase);
}
// Whether nothing orders the current thread's access after that one.
static bool clashes(const Touch& earlier, const Access& access) {
  if (!in_phase(earlier.phase, access)) return false;
  if (earlier.phase < access.first_phase) return true;
  bool lanes = earlier.by & LANES_OF, later = earlier.simd_phase != access.simd_phase;
  if (earlier.by == SEVERAL) return true;
  if (lanes) return (earlier.by & ~LANES_OF) != current->simdgroup || !later;
  return earlier.by != current->thread && (earlier.by / 32 != current->simdgroup || !later);
}
// Adds the current thread to those of one phase that did the same.
static void note(Touch& t, const Access& access) {
  u16 me = current->thread, my_simdgroup = current->simdgroup;
  bool lanes = t.by & LANES_OF;
  bool mine = !lanes && (t.by == me || (t.by / 32 == my_simdgroup && t.simd_phase != access.simd_phase));
  if (t.phase != access.phase || (t.by != SEVERAL && mine)) {
    t.by = me;
  } else if (t.by != SEVERAL && (lanes ? (t.by & ~LANES_OF) == my_simdgroup : t.by / 32 == my_simdgroup)) {
    t.by = lanes && t.simd_phase != access.simd_phase ? me : LANES_OF | my_simdgroup;
  } else {
    t.by = SEVERAL;
  }
  t.phase = access.phase;
  t.simd_phase = access.simd_phase;
  t.pc = access.pc;
}

static void check_cell(Cell& c, bool write, const Access& access) {
  if (clashes(c.write, access)) race(access, write, c.write, true);
  if (!write) {
    bool read_elsewhere = c.read.phase && c.read.phase < access.first_phase;  // by another threadgroup: that stays so
    if (!read_elsewhere) note(c.read, access);
    return;
  }
  if (clashes(c.read, access)) race(access, true, c.read, false);
  c.write = Touch{access.phase, access.pc, current->thread, access.simd_phase};
  c.written_in_group = group_number;
}
