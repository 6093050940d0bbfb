// What went wrong in a launch, collected by kind and place; put into words by the Python side.
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "../runtime.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;
using msl::ThreadInfo;
using msl::Where;
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HOT static inline __attribute__((always_inline))
#define COLD static __attribute__((noinline))

constexpr u32 NOBODY = 0xffffffff;  // in place of a thread's number: several, or unknown

struct Finding {
  const char* kind = "";
  char subject[64] = "";               // buffer, array, type or function
  const char* space = "";              // "device", "threadgroup" or "private"
  u64 pc = 0, earlier_pc = 0;          // places in the kernel's machine code, 0 where unknown
  u32 callers[8] = {};                 // other places it may be, innermost first, where a signal caught the kernel
  Where where{}, earlier_where{};      // places known by their line
  i64 index = 0, extent = 0;           // element and number of elements; or what the kind needs
  u64 bytes = 0;                       // of the access
  bool write = false, earlier_write = false, elsewhere = false;  // elsewhere: the earlier thread's threadgroup is another
  u32 earlier_thread = NOBODY;
  u32 lanes = 0, other_lanes = 0;
  u32 thread[3] = {}, threadgroup[3] = {};
  bool has_thread = false;
  u64 count = 1;
  void name(const char* text) { snprintf(subject, sizeof subject, "%s", text ? text : "?"); }
};

constexpr int MOST_FINDINGS = 64;
static Finding findings[MOST_FINDINGS];
static int finding_count;
static u64 findings_left_out;

static bool same_place(const Finding& a, const Finding& b) {
  return !strcmp(a.kind, b.kind) && a.pc == b.pc && a.earlier_pc == b.earlier_pc && a.where.line == b.where.line &&
         a.where.file == b.where.file && a.earlier_where.line == b.earlier_where.line && !strcmp(a.subject, b.subject);
}
// The same thing found again at the same place only counts up.
COLD void add_finding(const Finding& found) {
  for (int i = 0; i < finding_count; i++)
    if (same_place(findings[i], found)) {
      findings[i].count++;
      return;
    }
  if (finding_count == MOST_FINDINGS) findings_left_out++;
  else findings[finding_count++] = found;
}
