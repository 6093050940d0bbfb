// metal::'s type traits and numeric limits, with half and bfloat counted among the floating-point types.
#pragma once
#include "bfloat.h"

namespace metal {
using std::conditional, std::conditional_t, std::conjunction, std::declval, std::decay_t, std::disjunction;
using std::enable_if, std::enable_if_t, std::false_type, std::integral_constant, std::true_type, std::negation;
using std::is_array_v, std::is_base_of_v, std::is_const, std::is_const_v, std::is_convertible, std::is_convertible_v;
using std::is_enum, std::is_enum_v, std::is_integral, std::is_integral_v, std::is_pointer_v, std::is_same;
using std::is_same_v, std::is_signed, std::is_signed_v, std::is_unsigned, std::is_unsigned_v, std::is_void_v;
using std::make_signed, std::make_signed_t, std::make_unsigned, std::make_unsigned_t, std::remove_const_t;
using std::remove_cv, std::remove_cv_t, std::remove_pointer, std::remove_pointer_t, std::remove_reference;
using std::remove_reference_t, std::underlying_type_t;
template <bool B> using bool_constant = std::bool_constant<B>;
template <class... B> using _disjunction = std::disjunction<B...>;
template <class... B> using _conjunction = std::conjunction<B...>;

template <class T>
struct is_floating_point : std::bool_constant<is_same_v<remove_cv_t<T>, float> || is_same_v<remove_cv_t<T>, half> ||
                                              is_same_v<remove_cv_t<T>, bfloat>> {};
template <class T> constexpr bool is_floating_point_v = is_floating_point<T>::value;
template <class T> struct is_arithmetic : std::bool_constant<is_floating_point_v<T> || is_integral_v<T>> {};
template <class T> constexpr bool is_arithmetic_v = is_arithmetic<T>::value;

// Address spaces are gone by the time this is compiled, and every value counts as one that may vary.
template <class T> struct remove_addrspace { typedef T type; };
template <class T> using remove_addrspace_t = T;
template <class T> using uniform = T;
template <class T> constexpr T make_uniform(T value) { return value; }

template <class T> struct numeric_limits : std::numeric_limits<T> {};
template <> struct numeric_limits<half> {
  static constexpr bool is_specialized = true, is_signed = true, is_integer = false;
  static constexpr int digits = 11;
  static constexpr half max() { return static_cast<half>(65504.0f); }
  static constexpr half lowest() { return static_cast<half>(-65504.0f); }
  static constexpr half min() { return static_cast<half>(0x1p-14f); }
  static constexpr half epsilon() { return static_cast<half>(0x1p-10f); }
  static constexpr half infinity() { return static_cast<half>(__builtin_inff()); }
  static constexpr half quiet_NaN() { return static_cast<half>(__builtin_nanf("")); }
};
template <> struct numeric_limits<bfloat> {
  static constexpr bool is_specialized = true, is_signed = true, is_integer = false;
  static constexpr int digits = 8;
  static constexpr bfloat max() { return bfloat::from_bits(0x7f7f); }
  static constexpr bfloat lowest() { return bfloat::from_bits(0xff7f); }
  static constexpr bfloat min() { return bfloat::from_bits(0x0080); }
  static constexpr bfloat epsilon() { return bfloat::from_bits(0x3c00); }
  static constexpr bfloat infinity() { return bfloat::from_bits(0x7f80); }
  static constexpr bfloat quiet_NaN() { return bfloat::from_bits(0x7fc0); }
};
}  // namespace metal
