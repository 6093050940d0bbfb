// Simd functions and barriers: a fiber that reaches one waits until those it belongs with are there too.
#pragma once
#include "report.h"

#define EXPORT extern "C" __attribute__((visibility("default")))
COLD void settle_write();
COLD void settle_load();
static bool write_unsettled, load_unsettled;  // what the last access was is known only after it
HOT void settle() {
  if (UNLIKELY(write_unsettled)) settle_write();
  if (UNLIKELY(load_unsettled)) settle_load();
}

HOT bool same_function(const Simdgroup& g, int a, int b) {
  return g.function[a] == g.function[b] && same_site(g.site[a], g.site[b]);
}
// Metal lets the lanes that are there take part; seldom is it what was meant.
COLD void note_partial(const Simdgroup& g, u32 lanes) {
  int first = __builtin_ctz(lanes);
  Finding found;
  found.kind = "partial-simd";
  found.name(g.name[first]);
  found.where = g.site[first].where;
  found.lanes = lanes;
  found.other_lanes = g.all & ~lanes;
  place(found);
  add_finding(found);
}
static void complete_function(Simdgroup& g, u32 lanes) {
  int first = __builtin_ctz(lanes);
  if (UNLIKELY(lanes != g.all)) note_partial(g, lanes);
  if (g.function[first]) {
    g.function[first](lanes, g.in, g.out, g.argument);
  } else {
    if (g.argument[first] & 1) g.device_phase++;
    if (g.argument[first] & 2) g.threadgroup_phase++;
  }
  total_simd_calls++;
  g.at_function &= ~lanes;
  g.runnable |= lanes;
  g.mixed = false;
  for (u32 rest = g.at_function; rest; rest &= rest - 1)
    if (!same_function(g, __builtin_ctz(g.at_function), __builtin_ctz(rest))) g.mixed = true;
}
// No lane can run and some wait at simd functions: the earliest in the text is run with the lanes that are there.
HOT bool earlier_in_text(const Where& a, const Where& b) {
  return a.line % msl::SITES != b.line % msl::SITES ? a.line % msl::SITES < b.line % msl::SITES : a.line < b.line;
}
COLD void run_partial(Simdgroup& g) {
  int first = -1;
  for (u32 rest = g.at_function; rest; rest &= rest - 1) {
    int lane = __builtin_ctz(rest);
    if (first < 0 || earlier_in_text(g.site[lane].where, g.site[first].where)) first = lane;
  }
  u32 lanes = 0;
  for (u32 rest = g.at_function; rest; rest &= rest - 1)
    if (same_function(g, first, __builtin_ctz(rest))) lanes |= rest & -rest;
  complete_function(g, lanes);
}

COLD void check_barrier() {
  int first = -1, other = -1;
  for (int i = 0; i < thread_count; i++) {
    if (!(simdgroups[i / 32].at_barrier >> (i % 32) & 1)) continue;
    if (first < 0) first = i;
    else if (!same_site(barrier_site[i], barrier_site[first])) other = i;
  }
  Finding found;
  found.where = barrier_site[first].where;
  place(found);
  if (other >= 0) {
    found.kind = "divergent-barrier";
    found.earlier_where = barrier_site[other].where;
    add_finding(found);
  }
  if (live_count < thread_count) {
    found.kind = "barrier-after-exit";
    found.earlier_where = Where{};
    found.index = thread_count - live_count;
    found.extent = thread_count;
    add_finding(found);
  }
}
static void release_barrier() {
  check_barrier();
  for (int s = 0; s < simdgroup_count; s++) {
    simdgroups[s].runnable |= simdgroups[s].at_barrier;
    simdgroups[s].at_barrier = 0;
  }
  at_barrier_count = 0;
  total_barriers++;
  if (barrier_flags & 2) threadgroup_phase++;
  if (barrier_flags & 1) device_phase++;
}

// The current fiber waits or is done: on with another. Lanes of one simdgroup go first, so that they keep together.
static void run_next() {
  int s = current->simdgroup, lane = current->lane;
  for (;;) {
    Simdgroup& g = simdgroups[s];
    if (g.runnable) {
      u32 later = lane == 31 ? 0 : g.runnable & ~((2u << lane) - 1);
      return run_fiber(&fibers[s * 32 + __builtin_ctz(later ? later : g.runnable)]);
    }
    lane = 31;
    if (g.at_function) {
      run_partial(g);
      continue;
    }
    int step = 1;
    while (step < simdgroup_count && !simdgroups[(s + step) % simdgroup_count].runnable &&
           !simdgroups[(s + step) % simdgroup_count].at_function)
      step++;
    if (step < simdgroup_count) {
      s = (s + step) % simdgroup_count;
    } else if (live_count == 0) {
      Context unused;
      switch_fiber(unused, launcher);
    } else {
      release_barrier();
      s = 0;
    }
  }
}

HOT void arrive(msl::Collective function, const void* in, void* out, u64 argument, const Site& site, const char* name) {
  settle();
  Simdgroup& g = simdgroups[current->simdgroup];
  int lane = current->lane;
  g.in[lane] = const_cast<void*>(in);
  g.out[lane] = out;
  g.argument[lane] = argument;
  g.function[lane] = function;
  g.site[lane] = site;
  g.name[lane] = name;
  if (!g.at_function) g.mixed = false;
  else if (!same_function(g, __builtin_ctz(g.at_function), lane)) g.mixed = true;
  g.at_function |= 1u << lane;
  g.runnable &= ~(1u << lane);
  if (g.at_function == g.live && !g.mixed) complete_function(g, g.at_function);
  else run_next();
}
#define SITE site_of(where, frame, __builtin_return_address(0))
EXPORT void msl_collective(msl::Collective function, const void* in, void* out, u64 argument, Where where, const char* name,
                           const void* frame) {
  arrive(function, in, out, argument, SITE, name);
}
EXPORT void msl_simdgroup_barrier(int flags, Where where, const void* frame) {
  arrive(nullptr, nullptr, nullptr, flags, SITE, "simdgroup_barrier");
}
EXPORT void msl_threadgroup_barrier(int flags, Where where, const void* frame) {
  settle();
  Simdgroup& g = simdgroups[current->simdgroup];
  g.runnable &= ~(1u << current->lane);
  g.at_barrier |= 1u << current->lane;
  barrier_site[current->thread] = SITE;
  barrier_flags = at_barrier_count++ ? barrier_flags & flags : flags;
  if (at_barrier_count == live_count) release_barrier();
  else run_next();
}
EXPORT uint msl_lane() { return current->lane; }
EXPORT void msl_inactive_lane(uint lane, uint source) {
  Simdgroup& g = simdgroups[current->simdgroup];
  Finding found;
  found.kind = "inactive-lane";
  found.name(g.name[lane]);
  found.where = g.site[lane].where;
  found.index = source;
  found.lanes = lane;
  place(found);
  add_finding(found);
}
static void run_thread() {
  entry(&current->info, arguments);
  settle();
  Simdgroup& g = simdgroups[current->simdgroup];
  g.live &= ~(1u << current->lane);
  g.runnable &= ~(1u << current->lane);
  live_count--;
  run_next();
  __builtin_unreachable();
}
