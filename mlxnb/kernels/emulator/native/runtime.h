// What a compiled kernel and the runner that loads it say to each other.
#pragma once
#include "base.h"

namespace msl {
// Everything that one thread knows about its place; the runner fills it in.
struct ThreadInfo {
  uint thread_position_in_grid[3], thread_position_in_threadgroup[3], threadgroup_position_in_grid[3];
  uint threadgroups_per_grid[3], threads_per_grid[3], threads_per_threadgroup[3], dispatch_threads_per_threadgroup[3];
  uint grid_origin[3];
  uint thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup;
  uint simdgroups_per_threadgroup, dispatch_simdgroups_per_threadgroup;
  uint thread_index_in_quadgroup, quadgroup_index_in_threadgroup, quadgroups_per_threadgroup;
  uint dispatch_quadgroups_per_threadgroup, threads_per_simdgroup;
};

// A line of the kernel's text.
struct Where {
  const char* file;
  int line;
};
// Calls that share a line have lines a multiple of this apart (see sites.py).
constexpr int SITES = 1000000;
// Parameters that are the caller's line unless they are given, and what they say together.
#define MSL_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define MSL_WHERE ::msl::Where{file, line}

// A simd function, run once for all lanes in `mask`: `in` and `out` point at each lane's value and result.
typedef void (*Collective)(uint32_t mask, void* const* in, void* const* out, const uint64_t* argument);

extern "C" {
// `frame` is that of the function that calls: from there on it tells where the calls round this one come from.
MSL_UNMERGED void msl_collective(Collective, const void* in, void* out, uint64_t argument, Where, const char* name, const void* frame);
MSL_UNMERGED void msl_threadgroup_barrier(int flags, Where, const void* frame);
MSL_UNMERGED void msl_simdgroup_barrier(int flags, Where, const void* frame);
void* msl_threadgroup_memory(const void* key, size_t size, const char* name);
void msl_inactive_lane(uint lane, uint source);
void msl_atomic(const void* address, size_t size, int reads, int writes, void* return_address);
void msl_fence();
uint msl_lane();
}

template <class T> MSL_INLINE T& threadgroup_variable(const void* key, const char* name) {
  return *static_cast<T*>(msl_threadgroup_memory(key, sizeof(T), name));
}

// Arguments of a kernel: they take whatever pointer or reference type its signature asks for.
struct Pointer {
  void* address;
  template <class T> operator T*() const { return static_cast<T*>(address); }
};
struct Reference {
  void* address;
  template <class T> operator const T&() const { return *static_cast<const T*>(address); }
};
}  // namespace msl
