// Functions of whole vectors: the scalar ones applied to each element, relations, selection and geometry.
#pragma once
#include "integers.h"

namespace metal {
#define MSL_EACH(name, R)                                                                                        \
  template <class A, class V = vector_of<A>> MSL_INLINE vec<R, V::width> name(const A& a) {                      \
    typedef typename V::element_type T;                                                                          \
    V v = a;                                                                                                     \
    vec<R, V::width> result;                                                                                     \
    for (int i = 0; i < V::width; i++) result.elements[i] = name(static_cast<T>(v.elements[i]));                 \
    return result;                                                                                               \
  }
MSL_EACH(abs, typename V::element_type)
MSL_EACH(popcount, typename V::element_type)
MSL_EACH(clz, typename V::element_type)
MSL_EACH(ctz, typename V::element_type)
MSL_EACH(reverse_bits, typename V::element_type)
MSL_EACH(isnan, bool)
MSL_EACH(isinf, bool)
MSL_EACH(isfinite, bool)
MSL_EACH(isnormal, bool)
MSL_EACH(signbit, bool)
#undef MSL_EACH

#define MSL_EACH(name)                                                                                           \
  template <class A, class B, class V = typename meeting<A, B>::type> MSL_INLINE V name(const A& a, const B& b) { \
    V x = widened<V>(a), y = widened<V>(b), result;                                                              \
    for (int i = 0; i < V::width; i++) result.elements[i] = name(x.elements[i], y.elements[i]);                  \
    return result;                                                                                               \
  }
MSL_EACH(max)
MSL_EACH(min)
MSL_EACH(rotate)
MSL_EACH(addsat)
MSL_EACH(subsat)
MSL_EACH(absdiff)
MSL_EACH(mulhi)
#undef MSL_EACH

#define MSL_EACH(name)                                                                                           \
  template <class A, class B, class C, class V = vector_of<A>>                                                   \
  MSL_INLINE V name(const A& a, const B& b, const C& c) {                                                        \
    V x = a, y = widened<V>(b), z = widened<V>(c), result;                                                       \
    for (int i = 0; i < V::width; i++) result.elements[i] = name(x.elements[i], y.elements[i], z.elements[i]);   \
    return result;                                                                                               \
  }
MSL_EACH(clamp)
MSL_EACH(fma)
MSL_EACH(mix)
MSL_EACH(smoothstep)
MSL_EACH(max3)
MSL_EACH(min3)
MSL_EACH(median3)
#undef MSL_EACH

template <class T, class = enable_if_t<is_arithmetic_v<T>>> MSL_INLINE T select(T a, T b, bool second) {
  return second ? b : a;
}
template <class A, class B, class C, class V = vector_of<A>> MSL_INLINE V select(const A& a, const B& b, const C& second) {
  V x = a, y = widened<V>(b), result;
  vec<bool, V::width> choice = second;
  for (int i = 0; i < V::width; i++) result.elements[i] = choice.elements[i] ? y.elements[i] : x.elements[i];
  return result;
}
inline bool all(bool x) { return x; }
inline bool any(bool x) { return x; }
template <int N> MSL_INLINE bool all(vec<bool, N> v) {
  bool result = true;
  for (int i = 0; i < N; i++) result &= v.elements[i];
  return result;
}
template <int N> MSL_INLINE bool any(vec<bool, N> v) {
  bool result = false;
  for (int i = 0; i < N; i++) result |= v.elements[i];
  return result;
}

template <class A, class B, class V = vector_of<A>> MSL_INLINE typename V::element_type dot(const A& a, const B& b) {
  V x = a, y = b;
  typename V::element_type sum = x.elements[0] * y.elements[0];
  for (int i = 1; i < V::width; i++) sum += x.elements[i] * y.elements[i];
  return sum;
}
template <class A, class V = vector_of<A>> MSL_INLINE auto length_squared(const A& a) { return dot(V(a), V(a)); }
template <class A, class V = vector_of<A>> MSL_INLINE auto length(const A& a) { return sqrt(length_squared(a)); }
template <class A, class B, class V = vector_of<A>> MSL_INLINE auto distance(const A& a, const B& b) {
  return length(V(a) - V(b));
}
template <class A, class B, class V = vector_of<A>> MSL_INLINE auto distance_squared(const A& a, const B& b) {
  return length_squared(V(a) - V(b));
}
template <class A, class V = vector_of<A>> MSL_INLINE V normalize(const A& a) { return V(a) / length(a); }
template <class A, class B, class V = vector_of<A>> MSL_INLINE V cross(const A& a, const B& b) {
  V x = a, y = b;
  return V(x.y * y.z - x.z * y.y, x.z * y.x - x.x * y.z, x.x * y.y - x.y * y.x);
}

// One accuracy serves for all three: what the host's library gives.
#define MSL_ACCURACY(space)                                                                                      \
  namespace space {                                                                                              \
  using metal::abs, metal::acos, metal::acosh, metal::asin, metal::asinh, metal::atan, metal::atan2, metal::atanh; \
  using metal::ceil, metal::clamp, metal::copysign, metal::cos, metal::cosh, metal::cospi, metal::distance;      \
  using metal::divide, metal::dot, metal::exp, metal::exp10, metal::exp2, metal::fabs, metal::fdim, metal::floor; \
  using metal::fma, metal::fmax, metal::fmax3, metal::fmedian3, metal::fmin, metal::fmin3, metal::fmod;          \
  using metal::fract, metal::frexp, metal::isfinite, metal::isinf, metal::isnan, metal::isnormal, metal::ldexp;  \
  using metal::length, metal::length_squared, metal::log, metal::log10, metal::log2, metal::max, metal::max3;    \
  using metal::median3, metal::min, metal::min3, metal::mix, metal::modf, metal::normalize, metal::pow;          \
  using metal::powr, metal::rint, metal::round, metal::rsqrt, metal::saturate, metal::select, metal::sign;       \
  using metal::signbit, metal::sin, metal::sincos, metal::sinh, metal::sinpi, metal::smoothstep, metal::sqrt;    \
  using metal::step, metal::tan, metal::tanh, metal::tanpi, metal::trunc;                                        \
  }
MSL_ACCURACY(fast)
MSL_ACCURACY(precise)
#undef MSL_ACCURACY
}  // namespace metal
