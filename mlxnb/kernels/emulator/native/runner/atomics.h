// Atomic accesses against other threads' plain ones (a race), and those whose order decides what they give.
#pragma once
#include "races.h"

enum AtomicKind { LOAD = 1, STORE = 2, CHANGE = 3 };

// A load clashes with changes of other threads, unless the thread goes on to change the same place, as in a loop round
// atomic_compare_exchange: only its next step tells.
static struct {
  Access access;
  AtomicCell* cells;
} loaded;
HOT bool clashes_here(const Touch& earlier, const Access& access) {
  return earlier.phase >= access.first_phase && clashes(earlier, access);  // threadgroups have no order anyway
}
COLD void unordered(const Access& access, bool write, const Touch& earlier, bool earlier_write) {
  add_finding(clash_of("unordered-atomics", access, write, earlier, earlier_write));
}
COLD void settle_load() {
  load_unsettled = false;
  const Access& access = loaded.access;
  for (u64 i = 0; i * 4 < access.bytes; i++) {
    AtomicCell& c = loaded.cells[i];
    if (clashes_here(c.changed, access)) unordered(access, false, c.changed, true);
    else if (clashes_here(c.stored, access)) unordered(access, false, c.stored, true);
    note(c.loaded, access);
  }
}
static void change(AtomicCell& c, const Access& access, bool store) {
  if (clashes_here(c.loaded, access)) unordered(access, true, c.loaded, false);
  const Touch& other = store ? c.changed : c.stored;
  if (clashes_here(other, access)) unordered(access, true, other, true);
  note(store ? c.stored : c.changed, access);
}
COLD void check_atomic(Cells& cells, AtomicKind kind, const Access& access) {
  if (load_unsettled) {
    if (kind == CHANGE && loaded.access.address == access.address) load_unsettled = false;
    else settle_load();
  }
  for (u64 i = 0; i < access.bytes; i += cells.granule) {
    Cell& c = cells.cells[access.offset + i];
    if (clashes(c.write, access)) race(access, kind & STORE, c.write, true);
    else if (kind & STORE && clashes(c.read, access)) race(access, true, c.read, false);
  }
  if (!cells.atomics) cells.atomics = static_cast<AtomicCell*>(calloc(cells.size / 4 + 1, sizeof(AtomicCell)));
  AtomicCell* first = cells.atomics + access.offset / 4;
  load_unsettled = kind == LOAD;
  if (kind == LOAD) loaded = {access, first};
  else for (u64 i = 0; i * 4 < access.bytes; i++) change(first[i], access, kind == STORE);
}
// A plain access of what atomic functions touched.
COLD void check_against_atomics(const Cells& cells, bool write, const Access& access) {
  for (u64 i = access.offset / 4; i <= (access.offset + access.bytes - 1) / 4; i++) {
    const AtomicCell& c = cells.atomics[i];
    if (clashes(c.changed, access)) return race(access, write, c.changed, true);
    if (clashes(c.stored, access)) return race(access, write, c.stored, true);
    if (write && clashes(c.loaded, access)) return race(access, true, c.loaded, false);
  }
}
