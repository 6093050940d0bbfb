// Runs one launch of a compiled kernel in a process of its own and reports what it did.
//
// Usage: runner KERNEL.so FILE-DESCRIPTOR [ADDR2LINE] < description > report.json
// The description, in words: checks, time limit, grid, threadgroup, and a line for each buffer (see launch.py).
#include <initializer_list>
#if defined(__linux__)
#include <sys/prctl.h>
#endif
#include "faults.h"

static u32 grid[3], group[3], groups[3];

[[noreturn]] static void refuse(const char* why) {
  fprintf(stderr, "%s\n", why);
  exit(2);
}
static void read_description(int file) {
  int checks = 0;
  if (scanf("%d %lf %u %u %u %u %u %u %d", &checks, &time_limit, &grid[0], &grid[1], &grid[2], &group[0], &group[1],
            &group[2], &buffer_count) != 9)
    refuse("The description of the launch is not complete.");
  checking = checks;
  if (!reserve_arena(buffer_count + 1)) refuse("This process may not reserve the address space that its buffers need.");
  for (int i = 1; i <= buffer_count; i++) {
    Buffer& b = buffers[i];
    unsigned long size, offset;
    if (scanf("%63s %lu %u %u %lu", b.name, &size, &b.element, &b.flags, &offset) != 5) refuse("A buffer's line is not complete.");
    b.size = size;
    if (!map_buffer(i, file, offset, checking)) refuse("There is not enough memory for the kernel's buffers.");
    arguments[i - 1] = b.base;
  }
}
static void load_kernel(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void* address = library ? dlsym(library, "mlxnb_entry") : nullptr;
  Dl_info info{};
  if (!address || !dladdr(address, &info)) {
    fprintf(stderr, "%s\n", dlerror());
    exit(3);
  }
  kernel_start = reinterpret_cast<uintptr_t>(info.dli_fbase);
  entry = reinterpret_cast<void (*)(const ThreadInfo*, void* const*)>(address);
}

// A threadgroup at the grid's edge has fewer threads, as in dispatchThreads. Returns how many.
static int begin_threadgroup(u64 number, ThreadInfo& info) {
  u32 at[3] = {u32(number % groups[0]), u32(number / groups[0] % groups[1]), u32(number / groups[0] / groups[1])};
  info.threads_per_simdgroup = 32;
  for (int k = 0; k < 3; k++) {
    info.threadgroup_position_in_grid[k] = at[k];
    info.threadgroups_per_grid[k] = groups[k];
    info.threads_per_grid[k] = grid[k];
    info.dispatch_threads_per_threadgroup[k] = group[k];
    u32 left = grid[k] - at[k] * group[k];
    info.threads_per_threadgroup[k] = left < group[k] ? left : group[k];
  }
  int count = int(info.threads_per_threadgroup[0] * info.threads_per_threadgroup[1] * info.threads_per_threadgroup[2]);
  info.simdgroups_per_threadgroup = (count + 31) / 32;
  info.quadgroups_per_threadgroup = (count + 3) / 4;
  info.dispatch_simdgroups_per_threadgroup = (group[0] * group[1] * group[2] + 31) / 32;
  info.dispatch_quadgroups_per_threadgroup = (group[0] * group[1] * group[2] + 3) / 4;
  return count;
}
static void begin_thread(int number, const ThreadInfo& shared) {
  Fiber& f = fibers[number];
  f.thread = u16(number);
  f.lane = number % 32;
  f.simdgroup = u8(number / 32);
  f.info = shared;
  ThreadInfo& info = f.info;
  const u32* n = info.threads_per_threadgroup;
  u32 at[3] = {number % n[0], number / n[0] % n[1], number / n[0] / n[1]};
  for (int k = 0; k < 3; k++) {
    info.thread_position_in_threadgroup[k] = at[k];
    info.thread_position_in_grid[k] = info.threadgroup_position_in_grid[k] * group[k] + at[k];
  }
  info.thread_index_in_threadgroup = number;
  info.thread_index_in_simdgroup = number % 32;
  info.simdgroup_index_in_threadgroup = number / 32;
  info.quadgroup_index_in_threadgroup = number / 4;
  info.thread_index_in_quadgroup = number % 4;
  char* bottom = stack_bottom(number);
  prepare_fiber(f.context, bottom, bottom + STACK - (number % 61) * STAGGER, run_thread);
}
static void begin_phases() {
  threadgroup_phase++;
  first_device_phase = ++device_phase;
  group_number++;
  if (++reading_group < 64) return;
  reading_group = 1;
  for (int i = 1; i <= buffer_count; i++)
    for (u64 k = 0; buffers[i].marks && k < buffers[i].size; k++) buffers[i].marks[k] &= READ | WRITTEN;
}
static void run_threadgroup(u64 number) {
  ThreadInfo info{};
  thread_count = live_count = begin_threadgroup(number, info);
  simdgroup_count = (thread_count + 31) / 32;
  at_barrier_count = 0;
  begin_phases();
  for (int i = 0; i < array_count; i++) memset(arrays[i].base, 0xff, arrays[i].size);
  for (int s = 0; s < simdgroup_count; s++) {
    int lanes = thread_count - s * 32;
    simdgroups[s] = Simdgroup{};
    simdgroups[s].all = simdgroups[s].live = simdgroups[s].runnable = lanes >= 32 ? ~0u : (1u << lanes) - 1;
  }
  for (int t = 0; t < thread_count; t++) begin_thread(t, info);
  total_groups++;
  total_threads += thread_count;
  current = &fibers[0];
  switch_fiber(launcher, current->context);
}

static void find_unwritten() {
  current = nullptr;
  for (int i = 1; i <= buffer_count; i++) {
    Buffer& b = buffers[i];
    if ((b.flags & (OUTPUT | INITIALISED)) != OUTPUT || !b.marks) continue;
    Finding found;
    found.kind = "unwritten-output";
    found.space = "device";
    found.name(b.name);
    found.count = 0;
    found.extent = i64(b.size / b.element);
    for (u64 k = 0; k < b.size; k += b.element) {
      bool written = true;
      for (u64 j = 0; j < b.element; j++) written &= (b.marks[k + j] & WRITTEN) != 0;
      if (!written && !found.count++) found.index = i64(k / b.element);
    }
    if (found.count) add_finding(found);
  }
}

int main(int count, char** words) {
  if (count < 3 || count > 4) refuse("Usage: runner KERNEL.so FILE-DESCRIPTOR [ADDR2LINE]");
#if defined(__linux__)
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // no launch outlives the one who asked for it
#endif
  page = u64(sysconf(_SC_PAGESIZE));
  kernel_file = words[1];
  line_tool = words[3];
  read_description(atoi(words[2]));
  load_kernel(words[1]);
  u64 total = 1;
  for (int k = 0; k < 3; k++) {
    groups[k] = group[k] ? (grid[k] + group[k] - 1) / group[k] : 0;
    total *= groups[k];
  }
  thread_count = int(group[0] * group[1] * group[2]);
  if (total && !make_stacks(thread_count)) refuse("There is not enough memory for the threads' stacks.");
  clock_gettime(CLOCK_MONOTONIC, &began);
  catch_faults();
  for (u64 number = 0; number < total; number++) run_threadgroup(number);
  if (checking) find_unwritten();
  finish(true);
}
