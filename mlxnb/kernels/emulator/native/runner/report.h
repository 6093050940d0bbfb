// Writes the report of a launch to standard output as JSON, and ends the process.
#pragma once
#include <time.h>
#include <sys/time.h>
#include "threads.h"

static timespec began;

static void print_text(const char* text) {
  putchar('"');
  for (const char* c = text ? text : ""; *c; c++) {
    if (*c == '"' || *c == '\\') putchar('\\');
    if (static_cast<unsigned char>(*c) >= 32) putchar(*c);
  }
  putchar('"');
}
static void print_where(const char* name, const Where& where) {
  printf(",\"%s\":[", name);
  print_text(where.file);
  printf(",%d]", where.line);
}
static void print_finding(const Finding& f) {
  printf("{\"kind\":\"%s\",\"space\":\"%s\",\"subject\":", f.kind, f.space);
  print_text(f.subject);
  printf(",\"pc\":%lu,\"earlier_pc\":%lu", (unsigned long)f.pc, (unsigned long)f.earlier_pc);
  printf(",\"callers\":[%u", f.callers[0]);
  for (int i = 1; i < 8; i++) printf(",%u", f.callers[i]);
  printf("]");
  print_where("where", f.where);
  print_where("earlier_where", f.earlier_where);
  printf(",\"index\":%ld,\"extent\":%ld,\"bytes\":%lu", (long)f.index, (long)f.extent, (unsigned long)f.bytes);
  printf(",\"write\":%d,\"earlier_write\":%d,\"elsewhere\":%d", f.write, f.earlier_write, f.elsewhere);
  printf(",\"earlier_thread\":%ld", f.earlier_thread == NOBODY ? -1L : long(f.earlier_thread));
  printf(",\"lanes\":%u,\"other_lanes\":%u,\"has_thread\":%d", f.lanes, f.other_lanes, f.has_thread);
  printf(",\"thread\":[%u,%u,%u]", f.thread[0], f.thread[1], f.thread[2]);
  printf(",\"threadgroup\":[%u,%u,%u],\"count\":%lu}", f.threadgroup[0], f.threadgroup[1], f.threadgroup[2],
         (unsigned long)f.count);
}
static void print_buffer(const Buffer& b) {
  u64 read_unique = 0, written_unique = 0;
  for (u64 i = 0; b.marks && i < b.size; i++) {
    read_unique += b.marks[i] & READ;
    written_unique += (b.marks[i] & WRITTEN) >> 1;
  }
  printf("{\"name\":\"%s\",\"read\":%lu,\"written\":%lu,\"reads\":%lu,\"writes\":%lu", b.name, (unsigned long)b.read,
         (unsigned long)b.written, (unsigned long)b.reads, (unsigned long)b.writes);
  printf(",\"read_unique\":%lu,\"written_unique\":%lu,\"read_unique_per_threadgroup\":%lu}", (unsigned long)read_unique,
         (unsigned long)written_unique, (unsigned long)b.read_unique_per_threadgroup);
}
static double seconds_since(const timespec& start) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return double(now.tv_sec - start.tv_sec) + 1e-9 * double(now.tv_nsec - start.tv_nsec);
}

// A launch ends here, whether it came to its end or was stopped; nothing of the kernel runs afterwards.
[[noreturn]] COLD void finish(bool complete) {
  double seconds = seconds_since(began);
  for (int i = 0; fenced && i < finding_count; i++)
    if (!strcmp(findings[i].kind, "race-between-threadgroups")) findings[i].kind = "race-despite-fence";
  itimerval off{};
  setitimer(ITIMER_REAL, &off, nullptr);
  printf("{\"complete\":%d,\"seconds\":%.9f,\"threads\":%lu,\"threadgroups\":%lu", complete, seconds,
         (unsigned long)total_threads, (unsigned long)total_groups);
  printf(",\"barriers\":%lu,\"simd_calls\":%lu,\"left_out\":%lu,\"findings\":[", (unsigned long)total_barriers,
         (unsigned long)total_simd_calls, (unsigned long)findings_left_out);
  for (int i = 0; i < finding_count; i++) printf("%s", i ? "," : ""), print_finding(findings[i]);
  printf("],\"buffers\":[");
  for (int i = 1; i <= buffer_count; i++) printf("%s", i > 1 ? "," : ""), print_buffer(buffers[i]);
  printf("],\"threadgroup\":[");
  for (int i = 0; i < array_count; i++)
    printf("%s{\"name\":\"%s\",\"size\":%lu,\"read\":%lu,\"written\":%lu}", i ? "," : "", arrays[i].name,
           (unsigned long)arrays[i].size, (unsigned long)arrays[i].read, (unsigned long)arrays[i].written);
  printf("]}\n");
  fflush(stdout);
  _exit(0);
}
