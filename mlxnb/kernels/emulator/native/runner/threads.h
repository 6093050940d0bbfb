// The threads of one threadgroup as fibers: who runs, who waits, and who has left.
#pragma once
#include "memory.h"
#include "sites.h"
#include "switch.h"

constexpr int MOST_THREADS = 1024;
constexpr u64 STACK = 256 << 10, GUARD = 64 << 10;
// Stacks begin at slightly different places; otherwise all of them would share a few sets of the processor's cache.
constexpr u64 STAGGER = 192;

struct Fiber {
  Context context;
  u16 thread;
  u8 lane, simdgroup;
  ThreadInfo info;
};
struct Simdgroup {
  u32 all, live, runnable, at_function, at_barrier;  // a bit a lane
  bool mixed;                                   // lanes wait at different functions
  u16 threadgroup_phase, device_phase;          // count simdgroup barriers
  void* in[32];
  void* out[32];
  u64 argument[32];
  msl::Collective function[32];
  Site site[32];
  const char* name[32];
};

static Fiber fibers[MOST_THREADS];
static Simdgroup simdgroups[MOST_THREADS / 32];
static Site barrier_site[MOST_THREADS];
static Fiber* current;
static Context launcher;
static char* stacks;
static int thread_count, simdgroup_count, live_count, at_barrier_count, barrier_flags;
static u64 total_threads, total_groups, total_barriers, total_simd_calls;

// Memory is ordered between two accesses if a phase ended between them.
static u32 threadgroup_phase, device_phase, first_device_phase, group_number;
static bool fenced;  // the kernel has fences, which the race detector cannot follow

static void (*entry)(const ThreadInfo*, void* const*);
static void* arguments[MOST_BUFFERS + 1];

static void place(Finding& found) {
  if (!current) return;
  found.has_thread = true;
  for (int k = 0; k < 3; k++) {
    found.thread[k] = current->info.thread_position_in_threadgroup[k];
    found.threadgroup[k] = current->info.threadgroup_position_in_grid[k];
  }
}
static char* stack_bottom(int thread) { return stacks + u64(thread) * (STACK + GUARD) + GUARD; }
static bool make_stacks(int count) {
  void* all = mmap(nullptr, count * (STACK + GUARD), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return false;
  stacks = static_cast<char*>(all);
  for (int i = 0; i < count; i++) mprotect(stack_bottom(i) - GUARD, GUARD, PROT_NONE);
  return true;
}

HOT void run_fiber(Fiber* next) {
  Fiber* before = current;
  if (next == before) return;
  current = next;
  switch_fiber(before->context, next->context);
}
