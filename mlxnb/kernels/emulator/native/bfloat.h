// Metal's bfloat: 16 bits, rounded to nearest even, and widening to float is the only implicit conversion.
#pragma once
#include "base.h"

struct bfloat {
  uint16_t bits_;
  bfloat() = default;
  // Copies are written out because the compiler moves trivial structs by plain memory copies that no check sees.
  constexpr bfloat(const bfloat& other) : bits_(other.bits_) {}
  constexpr bfloat& operator=(const bfloat& other) {
    bits_ = other.bits_;
    return *this;
  }
  static constexpr bfloat from_bits(uint16_t bits) {
    bfloat result{};
    result.bits_ = bits;
    return result;
  }
  static constexpr uint16_t round(float value) {
    uint32_t u = __builtin_bit_cast(uint32_t, value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 64);  // NaN stays NaN
    return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
  explicit constexpr bfloat(float value) : bits_(round(value)) {}
  explicit constexpr bfloat(half value) : bits_(round(static_cast<float>(value))) {}
  template <class I, std::enable_if_t<std::is_integral<I>::value, int> = 0>
  constexpr bfloat(I value) : bits_(round(static_cast<float>(value))) {}
  constexpr float widened() const { return __builtin_bit_cast(float, static_cast<uint32_t>(bits_) << 16); }
  template <class F, std::enable_if_t<std::is_same<F, float>::value, int> = 0> constexpr operator F() const {
    return widened();
  }
  template <class F, std::enable_if_t<std::is_same<F, half>::value || std::is_integral<F>::value, int> = 0>
  explicit constexpr operator F() const {
    return static_cast<F>(widened());
  }
};

namespace msl {
template <class T> constexpr bool is_bfloat = std::is_same<T, bfloat>::value;
// Operands whose result is a bfloat: two of them, or one and an integer. With a float the result is a float.
template <class A, class B>
constexpr bool stays_bfloat =
    (is_bfloat<A> && (is_bfloat<B> || std::is_integral<B>::value)) || (std::is_integral<A>::value && is_bfloat<B>);
template <class A, class B>
constexpr bool widens = (is_bfloat<A> && std::is_same<B, float>::value) || (std::is_same<A, float>::value && is_bfloat<B>);
}  // namespace msl

#define MSL_ARITHMETIC(op)                                                                                      \
  template <class A, class B, std::enable_if_t<msl::stays_bfloat<A, B>, int> = 0>                               \
  constexpr bfloat operator op(A a, B b) { return bfloat(static_cast<float>(a) op static_cast<float>(b)); }     \
  template <class A, class B, std::enable_if_t<msl::widens<A, B>, int> = 0>                                     \
  constexpr float operator op(A a, B b) { return static_cast<float>(a) op static_cast<float>(b); }              \
  template <class B, std::enable_if_t<msl::stays_bfloat<bfloat, B>, int> = 0>                                   \
  constexpr bfloat& operator op##=(bfloat& a, B b) { return a = bfloat(a.widened() op static_cast<float>(b)); } \
  constexpr float& operator op##=(float& a, bfloat b) { return a = a op b.widened(); }
MSL_ARITHMETIC(+)
MSL_ARITHMETIC(-)
MSL_ARITHMETIC(*)
MSL_ARITHMETIC(/)
#undef MSL_ARITHMETIC

#define MSL_COMPARISON(op)                                                                                      \
  template <class A, class B, std::enable_if_t<msl::stays_bfloat<A, B> || msl::widens<A, B>, int> = 0>          \
  constexpr bool operator op(A a, B b) { return static_cast<float>(a) op static_cast<float>(b); }
MSL_COMPARISON(==)
MSL_COMPARISON(!=)
MSL_COMPARISON(<)
MSL_COMPARISON(>)
MSL_COMPARISON(<=)
MSL_COMPARISON(>=)
#undef MSL_COMPARISON

constexpr bfloat operator-(bfloat a) { return bfloat::from_bits(a.bits_ ^ 0x8000); }
constexpr bfloat operator+(bfloat a) { return a; }
