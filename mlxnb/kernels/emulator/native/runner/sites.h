// Which call a thread waits in: its line of text, and where the functions round it were called from.
#pragma once
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include "findings.h"

static uintptr_t kernel_start, kernel_end;
static const char* kernel_file;
static const char* line_tool;  // addr2line, or null where there is none: then the line alone tells calls apart

constexpr int DEEPEST = 16;  // calls in calls that are told apart
struct Site {
  Where where;
  const uintptr_t* frame;  // of the function that waits; it lies on the waiting thread's own stack
  uintptr_t address;       // to which the wait returns
  u64 calls;               // sums up the return addresses
};

// A frame begins with the caller's frame and the address to return to, on x86-64 and on arm64. Innermost call first.
#if defined(__x86_64__) || defined(__aarch64__)
#define EACH_CALL(frame)                                                                                             \
  for (const uintptr_t* f = frame; f[1] - kernel_start < kernel_end - kernel_start; f = reinterpret_cast<const uintptr_t*>(f[0]))
#else
#define EACH_CALL(frame) for (const uintptr_t* f = nullptr; f;)
#endif
HOT Site site_of(Where where, const void* frame, const void* return_address) {
  uintptr_t address = reinterpret_cast<uintptr_t>(return_address);
  Site site{where, static_cast<const uintptr_t*>(frame), address, address};
  EACH_CALL(site.frame) site.calls = (site.calls ^ f[1]) * 0x9e3779b97f4a7c15ull;
  return site;
}

// Sums up what a command prints, but for the "(discriminator 3)" that copies of one place may differ in.
COLD u64 sum_of_output(char* const* command) {
  int ends[2];
  pid_t child;
  if (pipe2(ends, O_CLOEXEC)) return 0;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  bool started = !posix_spawn(&child, command[0], &actions, nullptr, command, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  u64 sum = 0;
  bool skip = false;
  static char text[4096];
  for (ssize_t n; started && (n = read(ends[0], text, sizeof text)) > 0;)
    for (ssize_t i = 0; i < n; i++) {
      skip = text[i] == ' ' || (skip && text[i] != '\n');
      if (!skip) sum = (sum ^ u8(text[i])) * 0x100000001b3ull;
    }
  close(ends[0]);
  if (started) waitpid(child, nullptr, 0);
  return sum;
}
// The lines of a site's calls, summed up; the compiler may have made several copies of the code of one line.
COLD u64 lines_of(const Site& site) {
  static struct { u64 calls, lines; } known[512];
  static int known_count;
  for (int i = 0; i < known_count; i++)
    if (known[i].calls == site.calls) return known[i].lines;
  char words[DEEPEST][16];
  char* command[DEEPEST + 5] = {const_cast<char*>(line_tool), const_cast<char*>("-i"), const_cast<char*>("-e"), const_cast<char*>(kernel_file)};
  int count = 0;
  auto add = [&](uintptr_t address) {
    if (count == DEEPEST) return;
    snprintf(words[count], sizeof words[count], "0x%x", u32(address - kernel_start - 1));
    command[4 + count] = words[count];
    count++;
  };
  add(site.address);
  EACH_CALL(site.frame) add(f[1]);
  u64 lines = sum_of_output(command);
  if (known_count < 512) known[known_count++] = {site.calls, lines};
  return lines;
}
COLD bool same_lines(const Site& a, const Site& b) { return !line_tool || lines_of(a) == lines_of(b); }
HOT bool same_site(const Site& a, const Site& b) {
  return a.where.line == b.where.line && a.where.file == b.where.file && (a.calls == b.calls || same_lines(a, b));
}
