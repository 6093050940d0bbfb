// metal::'s integer functions.
#pragma once
#include "math.h"

namespace metal {
#define MSL_INTEGER(T)                                                                                           \
  MSL_INLINE constexpr T max(T a, T b) { return a < b ? b : a; }                                                 \
  MSL_INLINE constexpr T min(T a, T b) { return b < a ? b : a; }                                                 \
  MSL_INLINE constexpr T clamp(T x, T low, T high) { return min(max(x, low), high); }                            \
  MSL_INLINE constexpr T max3(T a, T b, T c) { return max(a, max(b, c)); }                                       \
  MSL_INLINE constexpr T min3(T a, T b, T c) { return min(a, min(b, c)); }                                       \
  MSL_INLINE constexpr T median3(T a, T b, T c) { return max(min(a, b), min(max(a, b), c)); }                    \
  MSL_INLINE constexpr T abs(T a) { return a < 0 ? static_cast<T>(-a) : a; }
MSL_INTEGER(char)
MSL_INTEGER(signed char)
MSL_INTEGER(uchar)
MSL_INTEGER(short)
MSL_INTEGER(ushort)
MSL_INTEGER(int)
MSL_INTEGER(uint)
MSL_INTEGER(long)
MSL_INTEGER(ulong)
#undef MSL_INTEGER

template <class T> constexpr int bits_of = 8 * sizeof(T);
template <class T> using if_integer = enable_if_t<is_integral_v<T>, T>;

template <class T> MSL_INLINE if_integer<T> popcount(T x) { return T(__builtin_popcountll(make_unsigned_t<T>(x))); }
template <class T> MSL_INLINE if_integer<T> clz(T x) {
  return x ? T(__builtin_clzll(make_unsigned_t<T>(x)) - (64 - bits_of<T>)) : T(bits_of<T>);
}
template <class T> MSL_INLINE if_integer<T> ctz(T x) {
  return x ? T(__builtin_ctzll(make_unsigned_t<T>(x))) : T(bits_of<T>);
}
template <class T> MSL_INLINE if_integer<T> reverse_bits(T x) {
  make_unsigned_t<T> from = x, result = 0;
  for (int i = 0; i < bits_of<T>; i++) result = (result << 1) | ((from >> i) & 1);
  return T(result);
}
template <class T> MSL_INLINE if_integer<T> extract_bits(T x, uint offset, uint count) {
  if (count == 0) return T(0);
  return T(T(make_unsigned_t<T>(x) << (bits_of<T> - offset - count)) >> (bits_of<T> - count));
}
template <class T> MSL_INLINE if_integer<T> insert_bits(T base, T insert, uint offset, uint count) {
  typedef make_unsigned_t<T> U;
  U mask = count >= uint(bits_of<T>) ? U(~U(0)) : U(((U(1) << count) - 1) << offset);
  return T((U(base) & ~mask) | ((U(insert) << offset) & mask));
}
template <class T> MSL_INLINE if_integer<T> rotate(T x, T by) {
  typedef make_unsigned_t<T> U;
  U s = U(by) & (bits_of<T> - 1);
  return s ? T(U(U(x) << s) | U(U(x) >> (bits_of<T> - s))) : x;
}
template <class T> MSL_INLINE if_integer<T> addsat(T a, T b) {
  T r;
  return __builtin_add_overflow(a, b, &r) ? (b < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max()) : r;
}
template <class T> MSL_INLINE if_integer<T> subsat(T a, T b) {
  T r;
  if (!__builtin_sub_overflow(a, b, &r)) return r;
  return is_signed_v<T> && b < 0 ? numeric_limits<T>::max() : numeric_limits<T>::min();
}
template <class T> MSL_INLINE if_integer<T> absdiff(T a, T b) { return a < b ? b - a : a - b; }
template <class T> MSL_INLINE if_integer<T> hadd(T a, T b) { return (a & b) + ((a ^ b) >> 1); }
template <class T> MSL_INLINE if_integer<T> rhadd(T a, T b) { return (a | b) - ((a ^ b) >> 1); }
template <class T> MSL_INLINE if_integer<T> mulhi(T a, T b) { return T((__int128(a) * __int128(b)) >> bits_of<T>); }
MSL_INLINE ulong mulhi(ulong a, ulong b) { return ulong(((unsigned __int128)a * b) >> 64); }
template <class T> MSL_INLINE if_integer<T> mul24(T a, T b) { return a * b; }
template <class T> MSL_INLINE if_integer<T> mad24(T a, T b, T c) { return a * b + c; }
template <class T> MSL_INLINE if_integer<T> madhi(T a, T b, T c) { return mulhi(a, b) + c; }
}  // namespace metal
