// Simd and quad functions that move values between lanes, and votes.
#pragma once
#include "simd.h"

namespace metal {
// The argument is the lane to read from.
template <class T> struct Gather {
  MSL_UNSEEN static void run(uint32_t mask, void* const* in, void* const* out, const uint64_t* argument) {
    T result[32];
    MSL_LANES(mask) {
      uint source = static_cast<uint>(argument[i]);
      if (source < 32 && (mask >> source & 1)) {
        result[i] = *static_cast<const T*>(in[source]);
      } else {
        msl::msl_inactive_lane(i, source);
        __builtin_memset((void*)&result[i], 0xff, sizeof(T));
      }
    }
    MSL_LANES(mask) *static_cast<T*>(out[i]) = result[i];
  }
};
#define MSL_SHUFFLE(name, source)                                                                                \
  template <class T, MSL_LANE_TYPE> MSL_INLINE T name(T value, ushort n, MSL_CALLER) {                           \
    uint lane = msl::msl_lane();                                                                                 \
    (void)lane;                                                                                                  \
    return collective<Gather<T>>(value, static_cast<uint>(source), MSL_WHERE, #name);                            \
  }                                                                                                              \
  template <MSL_SWIZZLE> MSL_INLINE auto name(const swizzle<T, N, I...>& value, ushort n, MSL_CALLER) {          \
    return name(value.as_vec(), n, file, line);                                                                  \
  }
MSL_SHUFFLE(simd_shuffle, n)
MSL_SHUFFLE(simd_broadcast, n)
MSL_SHUFFLE(simd_shuffle_xor, lane ^ n)
MSL_SHUFFLE(simd_shuffle_down, lane + n < 32 ? lane + n : lane)
MSL_SHUFFLE(simd_shuffle_up, lane >= n ? lane - n : lane)
MSL_SHUFFLE(simd_shuffle_rotate_down, (lane + n) & 31)
MSL_SHUFFLE(simd_shuffle_rotate_up, (lane - n) & 31)
MSL_SHUFFLE(quad_shuffle, (lane & ~3u) + (n & 3))
MSL_SHUFFLE(quad_broadcast, (lane & ~3u) + (n & 3))
MSL_SHUFFLE(quad_shuffle_xor, lane ^ (n & 3))
MSL_SHUFFLE(quad_shuffle_down, (lane & 3) + n < 4 ? lane + n : lane)
MSL_SHUFFLE(quad_shuffle_up, (lane & 3) >= n ? lane - n : lane)
MSL_SHUFFLE(quad_shuffle_rotate_down, (lane & ~3u) + ((lane + n) & 3))
MSL_SHUFFLE(quad_shuffle_rotate_up, (lane & ~3u) + ((lane - n) & 3))
#undef MSL_SHUFFLE

// What falls off one end is replaced by `filling`, whose own lanes are counted round from the other end.
template <class T, MSL_LANE_TYPE>
MSL_INLINE T simd_shuffle_and_fill_up(T value, T filling, ushort n, MSL_CALLER) {
  T moved = simd_shuffle_up(value, n, file, line), filled = simd_shuffle_rotate_up(filling, n, file, line);
  return msl::msl_lane() >= n ? moved : filled;
}
template <class T, MSL_LANE_TYPE>
MSL_INLINE T simd_shuffle_and_fill_down(T value, T filling, ushort n, MSL_CALLER) {
  T moved = simd_shuffle_down(value, n, file, line), filled = simd_shuffle_rotate_down(filling, n, file, line);
  return msl::msl_lane() + n < 32 ? moved : filled;
}

struct First {
  MSL_UNSEEN static void run(uint32_t mask, void* const*, void* const* out, const uint64_t*) {
    MSL_LANES(mask) *static_cast<uint32_t*>(out[i]) = (mask & -mask) == 1u << i;
  }
};
template <class T> struct FromFirst {
  MSL_UNSEEN static void run(uint32_t mask, void* const* in, void* const* out, const uint64_t*) {
    T value = *static_cast<const T*>(in[__builtin_ctz(mask)]);
    MSL_LANES(mask) *static_cast<T*>(out[i]) = value;
  }
};
MSL_INLINE bool simd_is_first(MSL_CALLER) {
  return collective<First, uint32_t>(0, 0, MSL_WHERE, "simd_is_first");
}
template <class T, MSL_LANE_TYPE> MSL_INLINE T simd_broadcast_first(T value, MSL_CALLER) {
  return collective<FromFirst<T>>(value, 0, MSL_WHERE, "simd_broadcast_first");
}

class simd_vote {
  uint64_t votes;

 public:
  typedef uint64_t vote_t;
  explicit constexpr simd_vote(uint64_t votes = 0) : votes(votes) {}
  explicit operator uint64_t() const { return votes; }
  bool all() const { return static_cast<uint32_t>(votes) == 0xffffffffu; }
  bool any() const { return votes != 0; }
};
enum class Vote { ballot, all, any, active };
template <Vote kind> struct Voting {
  MSL_UNSEEN static void run(uint32_t mask, void* const* in, void* const* out, const uint64_t*) {
    uint32_t yes = 0, answer = mask;
    MSL_LANES(mask) if (*static_cast<const uint32_t*>(in[i])) yes |= 1u << i;
    if (kind == Vote::ballot) answer = yes;
    if (kind == Vote::all) answer = yes == mask;
    if (kind == Vote::any) answer = yes != 0;
    MSL_LANES(mask) *static_cast<uint32_t*>(out[i]) = answer;
  }
};
MSL_INLINE simd_vote simd_ballot(bool yes, MSL_CALLER) {
  return simd_vote(collective<Voting<Vote::ballot>, uint32_t>(yes, 0, MSL_WHERE, "simd_ballot"));
}
MSL_INLINE bool simd_all(bool yes, MSL_CALLER) {
  return collective<Voting<Vote::all>, uint32_t>(yes, 0, MSL_WHERE, "simd_all");
}
MSL_INLINE bool simd_any(bool yes, MSL_CALLER) {
  return collective<Voting<Vote::any>, uint32_t>(yes, 0, MSL_WHERE, "simd_any");
}
MSL_INLINE simd_vote simd_active_threads_mask(MSL_CALLER) {
  return simd_vote(collective<Voting<Vote::active>, uint32_t>(1, 0, MSL_WHERE, "simd_active_threads_mask"));
}
}  // namespace metal
