// Atomic functions. One thread of the host runs all of Metal's, so a plain access is atomic; the runner is only told.
#pragma once
#include "matrix.h"

// Not inlined, so that the address to return to is the caller's.
#define MSL_TOLD __attribute__((noinline)) MSL_UNSEEN
#define MSL_TELL(reads, writes) msl::msl_atomic(object, sizeof(T), reads, writes, __builtin_return_address(0))

namespace metal {
template <class T> struct atomic { T value; };
template <class T> using _atomic = atomic<T>;
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;
typedef atomic<bool> atomic_bool;
typedef atomic<ulong> atomic_ulong;

template <class T> MSL_TOLD T atomic_load_explicit(const atomic<T>* object, memory_order) {
  MSL_TELL(1, 0);
  return object->value;
}
template <class T, class U> MSL_TOLD void atomic_store_explicit(atomic<T>* object, U value, memory_order) {
  MSL_TELL(0, 1);
  object->value = static_cast<T>(value);
}
template <class T, class U> MSL_TOLD bool atomic_compare_exchange_weak_explicit(
    atomic<T>* object, T* expected, U desired, memory_order, memory_order) {
  MSL_TELL(1, 1);
  bool equal = __builtin_memcmp(&object->value, expected, sizeof(T)) == 0;
  if (equal) object->value = static_cast<T>(desired);
  else *expected = object->value;
  return equal;
}
#define MSL_ATOMIC(name, expression)                                                                             \
  template <class T, class U> MSL_TOLD T atomic_##name##_explicit(atomic<T>* object, U operand, memory_order) {   \
    MSL_TELL(1, 1);                                                                                              \
    T old = object->value, x = static_cast<T>(operand);                                                          \
    object->value = static_cast<T>(expression);                                                                  \
    return old;                                                                                                  \
  }
MSL_ATOMIC(exchange, x)
MSL_ATOMIC(fetch_add, old + x)
MSL_ATOMIC(fetch_sub, old - x)
MSL_ATOMIC(fetch_max, old < x ? x : old)
MSL_ATOMIC(fetch_min, x < old ? x : old)
MSL_ATOMIC(fetch_and, old& x)
MSL_ATOMIC(fetch_or, old | x)
MSL_ATOMIC(fetch_xor, old ^ x)
#undef MSL_ATOMIC
#undef MSL_TELL
#undef MSL_TOLD
MSL_INLINE void atomic_thread_fence(mem_flags, memory_order = memory_order_seq_cst, thread_scope = thread_scope_device) {
  msl::msl_fence();
}

template <class T, size_t N> struct array {
  T elements[N];
  constexpr T& operator[](size_t i) { return elements[i]; }
  constexpr const T& operator[](size_t i) const { return elements[i]; }
  constexpr size_t size() const { return N; }
};
}  // namespace metal
