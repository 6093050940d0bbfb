// Switching between fibers: a few instructions on x86-64 and arm64, ucontext anywhere else.
#pragma once
#include <stdint.h>

#if defined(MLXNB_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#include <ucontext.h>
struct Context {
  ucontext_t registers;
};
static void switch_fiber(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }
static void prepare_fiber(Context& context, char* bottom, char* top, void (*run)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = bottom;
  context.registers.uc_stack.ss_size = top - bottom;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, run, 0);
}

#else
struct Context {
  void* stack;
};
// Only the registers that a callee must keep are saved; everything else is the caller's already.
extern "C" void mlxnb_switch(void** from, void* to);

#if defined(__x86_64__)
// The jump, where a return would do, keeps the processor's prediction of returns in step.
asm(R"(
.text
.globl mlxnb_switch
.hidden mlxnb_switch
mlxnb_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
)");
static void prepare_fiber(Context& context, char*, char* top, void (*run)()) {
  void** stack = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
  *--stack = nullptr;  // where a return address would be, so that the stack is aligned as after a call
  *--stack = reinterpret_cast<void*>(run);
  for (int i = 0; i < 6; i++) *--stack = nullptr;
  context.stack = stack;
}

#else
asm(R"(
.text
.globl mlxnb_switch
.hidden mlxnb_switch
mlxnb_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
static void prepare_fiber(Context& context, char*, char* top, void (*run)()) {
  void** stack = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15)) - 20;
  for (int i = 0; i < 20; i++) stack[i] = nullptr;
  stack[11] = reinterpret_cast<void*>(run);  // x30, where the return goes
  context.stack = stack;
}
#endif
static void switch_fiber(Context& from, Context& to) { mlxnb_switch(&from.stack, to.stack); }
#endif
