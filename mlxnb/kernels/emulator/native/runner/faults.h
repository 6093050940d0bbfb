// Faults that only the processor notices, and the time limit: each becomes a finding, and the launch ends.
#pragma once
#include <link.h>
#include <signal.h>
#include <ucontext.h>
#include "undefined.h"

static double time_limit;

static uintptr_t interrupted_at(const ucontext_t* context) {
#if defined(__x86_64__)
  return uintptr_t(context->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return uintptr_t(context->uc_mcontext.pc);
#else
  return 0;
#endif
}
static uintptr_t stack_at(const ucontext_t* context) {
#if defined(__x86_64__)
  return uintptr_t(context->uc_mcontext.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return uintptr_t(context->uc_mcontext.sp);
#else
  return 0;
#endif
}
static bool was_write(const ucontext_t* context) {
#if defined(__x86_64__)
  return context->uc_mcontext.gregs[REG_ERR] & 2;
#else
  return false;
#endif
}

static u32 interrupted_place(const ucontext_t* context) {
  uintptr_t at = interrupted_at(context);
  return at >= kernel_start && at < kernel_end ? u32(at - kernel_start) : 0;
}
// The kernel's calls on the stack: where it is while a check, a library or the linker's stub runs for it. Words that only
// look like a call may be among them.
static void find_callers(const ucontext_t* context, Finding& found) {
  uintptr_t low = stack_at(context), offset = low - reinterpret_cast<uintptr_t>(stacks);
  if (!stacks || offset >= u64(thread_count) * (STACK + GUARD) || offset % (STACK + GUARD) < GUARD) return;
  uintptr_t high = low - offset % (STACK + GUARD) + STACK + GUARD;  // whose stack it is tells better than `current` does
  int count = 0;
  for (uintptr_t p = low & ~uintptr_t(7); p + 8 <= high && count < 8; p += 8) {
    uintptr_t word = *reinterpret_cast<uintptr_t*>(p);
    if (word > kernel_start && word < kernel_end) found.callers[count++] = u32(word - kernel_start - 1);
  }
}
// Below the running thread's stack, by no more than its private arrays can take it past the guard.
static bool below_stack(uintptr_t address) {
  if (!current) return false;
  uintptr_t bottom = reinterpret_cast<uintptr_t>(stack_bottom(current->thread));
  return address < bottom && address > bottom - (16ull << 20);
}
static void on_signal(int signal, siginfo_t* info, void* raw) {
  const ucontext_t* context = static_cast<ucontext_t*>(raw);
  uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  u32 pc = interrupted_place(context);
  bool in_arena = (signal == SIGSEGV || signal == SIGBUS) && address - arena < arena_size;
  if (in_arena) out_of_bounds(address, 1, was_write(context), pc);
  Finding found;
  found.kind = signal == SIGALRM ? "time-limit" : signal == SIGFPE ? "division-by-zero" : below_stack(address) ? "stack-overflow" : "crash";
  found.pc = pc;
  find_callers(context, found);
  found.index = signal == SIGALRM ? i64(time_limit * 1e6) : below_stack(address) ? i64(STACK) : i64(address);
  found.bytes = u64(signal);
  place(found);
  add_finding(found);
  finish(false);
}

static int find_text(dl_phdr_info* info, size_t, void*) {
  if (info->dlpi_addr != kernel_start) return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X && end > kernel_end) kernel_end = end;
  }
  return 1;
}
static void catch_faults() {
  dl_iterate_phdr(find_text, nullptr);
  static char alternative[64 << 10];
  stack_t stack{};
  stack.ss_sp = alternative;
  stack.ss_size = sizeof alternative;
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) sigaction(signal, &action, nullptr);
  itimerval limit{};
  limit.it_value.tv_sec = time_t(time_limit);
  limit.it_value.tv_usec = suseconds_t((time_limit - double(limit.it_value.tv_sec)) * 1e6);
  if (time_limit > 0) setitimer(ITIMER_REAL, &limit, nullptr);
}
