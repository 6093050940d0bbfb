// Barriers and the functions of a simdgroup (32 lanes) or a quadgroup (4): every lane hands in a value and waits.
#pragma once
#include "elementwise.h"
#include "runtime.h"

namespace metal {
enum class mem_flags : int {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16
};
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }
enum memory_order { memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst };
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };

#define MSL_BARRIER(name)                                                          \
  MSL_INLINE void name(mem_flags flags, MSL_CALLER) {                              \
    msl::msl_##name(int(flags), MSL_WHERE, __builtin_frame_address(0));            \
  }                                                                                \
  MSL_INLINE void name(mem_flags flags, memory_order, thread_scope, MSL_CALLER) {  \
    msl::msl_##name(int(flags), MSL_WHERE, __builtin_frame_address(0));            \
  }
MSL_BARRIER(threadgroup_barrier)
MSL_BARRIER(simdgroup_barrier)
#undef MSL_BARRIER

// The types that Metal's simd functions take.
template <class T> struct takes_part : std::bool_constant<is_arithmetic_v<T> && sizeof(T) <= 4> {};
template <class T, int N> struct takes_part<vec<T, N>> : takes_part<T> {};
#define MSL_LANE_TYPE class = enable_if_t<takes_part<T>::value>
// A swizzle takes part as the vector that it gives.
#define MSL_SWIZZLE class T, int N, int... I

template <class Operation, class T, class R = T>
MSL_UNMERGED __attribute__((noinline)) MSL_UNSEEN R collective(T value, uint64_t argument, msl::Where where, const char* name) {
  R result;
  msl::msl_collective(&Operation::run, &value, &result, argument, where, name, __builtin_frame_address(0));
  return result;
}
#define MSL_LANES(mask) for (uint32_t rest = (mask), i = 0; rest && ((i = __builtin_ctz(rest)), true); rest &= rest - 1)

// Pairs of lanes 1, 2, 4, … apart meet. In which order Apple's hardware adds is not documented: this is an assumption.
template <class T, class F, int group> struct Reduce {
  MSL_UNSEEN static void run(uint32_t mask, void* const* in, void* const* out, const uint64_t*) {
    T value[32];
    bool there[32] = {};
    MSL_LANES(mask) value[i] = *static_cast<const T*>(in[i]), there[i] = true;
    for (int step = 1; step < group; step *= 2)
      for (int i = 0; i < 32; i += 2 * step)
        if (there[i + step]) {
          value[i] = there[i] ? F::apply(value[i], value[i + step]) : value[i + step];
          there[i] = true;
        }
    MSL_LANES(mask) *static_cast<T*>(out[i]) = value[i & ~(group - 1)];
  }
};
template <class T, class F, bool exclusive, int group> struct Scan {
  MSL_UNSEEN static void run(uint32_t mask, void* const* in, void* const* out, const uint64_t* argument) {
    T total[8];
    bool begun[8] = {};
    MSL_LANES(mask) {
      T value = *static_cast<const T*>(in[i]), &sum = total[i / group];
      T before = begun[i / group] ? sum : static_cast<T>(static_cast<int>(argument[i]));
      sum = begun[i / group] ? static_cast<T>(F::apply(sum, value)) : value;
      begun[i / group] = true;
      *static_cast<T*>(out[i]) = exclusive ? before : sum;
    }
  }
};
#define MSL_FUNCTION(name, expression) \
  template <class T> struct name { MSL_UNSEEN static T apply(const T& a, const T& b) { return static_cast<T>(expression); } };
MSL_FUNCTION(Sum, a + b)
MSL_FUNCTION(Product, a* b)
MSL_FUNCTION(And, a& b)
MSL_FUNCTION(Or, a | b)
MSL_FUNCTION(Xor, a ^ b)
MSL_FUNCTION(Largest, metal::max(a, b))
MSL_FUNCTION(Smallest, metal::min(a, b))
#undef MSL_FUNCTION

#define MSL_DEFINE(name, Operation, argument)                                                                    \
  template <class T, MSL_LANE_TYPE> MSL_INLINE T name(T value, MSL_CALLER) {                    \
    return collective<Operation>(value, argument, MSL_WHERE, #name);                                             \
  }                                                                                                              \
  template <MSL_SWIZZLE> MSL_INLINE auto name(const swizzle<T, N, I...>& value, MSL_CALLER) {                    \
    return name(value.as_vec(), file, line);                                                                     \
  }
#define MSL_COMMA ,
#define MSL_REDUCE(name, F)                                       \
  MSL_DEFINE(simd_##name, Reduce<T MSL_COMMA F<T> MSL_COMMA 32>, 0) \
  MSL_DEFINE(quad_##name, Reduce<T MSL_COMMA F<T> MSL_COMMA 4>, 0)
MSL_REDUCE(sum, Sum)
MSL_REDUCE(product, Product)
MSL_REDUCE(max, Largest)
MSL_REDUCE(min, Smallest)
MSL_REDUCE(and, And)
MSL_REDUCE(or, Or)
MSL_REDUCE(xor, Xor)
#define MSL_SCAN(name, F, neutral)                                                                       \
  MSL_DEFINE(simd_prefix_inclusive_##name, Scan<T MSL_COMMA F<T> MSL_COMMA false MSL_COMMA 32>, neutral) \
  MSL_DEFINE(simd_prefix_exclusive_##name, Scan<T MSL_COMMA F<T> MSL_COMMA true MSL_COMMA 32>, neutral)  \
  MSL_DEFINE(quad_prefix_inclusive_##name, Scan<T MSL_COMMA F<T> MSL_COMMA false MSL_COMMA 4>, neutral)  \
  MSL_DEFINE(quad_prefix_exclusive_##name, Scan<T MSL_COMMA F<T> MSL_COMMA true MSL_COMMA 4>, neutral)
MSL_SCAN(sum, Sum, 0)
MSL_SCAN(product, Product, 1)
}  // namespace metal
