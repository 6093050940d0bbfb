// metal::'s floating-point functions, computed in float and rounded to the argument's type, for scalars and vectors.
#pragma once
#include "operators.h"

namespace metal {
constexpr float msl_pi = 3.14159265358979323846f;

#define MSL_UNARY(name, expression)                                                                              \
  MSL_INLINE float name(float x) { return expression; }                                                          \
  MSL_INLINE half name(half value) { float x = value; return static_cast<half>(expression); }                    \
  MSL_INLINE bfloat name(bfloat value) { float x = value; return bfloat(expression); }                           \
  template <class A, class V = vector_of<A>> MSL_INLINE V name(const A& a) {                                     \
    V v = a, result;                                                                                             \
    for (int i = 0; i < V::width; i++) result.elements[i] = name(v.elements[i]);                                 \
    return result;                                                                                               \
  }
MSL_UNARY(acos, __builtin_acosf(x))
MSL_UNARY(acosh, __builtin_acoshf(x))
MSL_UNARY(asin, __builtin_asinf(x))
MSL_UNARY(asinh, __builtin_asinhf(x))
MSL_UNARY(atan, __builtin_atanf(x))
MSL_UNARY(atanh, __builtin_atanhf(x))
MSL_UNARY(ceil, __builtin_ceilf(x))
MSL_UNARY(cos, __builtin_cosf(x))
MSL_UNARY(cosh, __builtin_coshf(x))
MSL_UNARY(cospi, static_cast<float>(__builtin_cos(3.14159265358979323846 * static_cast<double>(x))))
MSL_UNARY(exp, __builtin_expf(x))
MSL_UNARY(exp2, __builtin_exp2f(x))
MSL_UNARY(exp10, __builtin_powf(10.0f, x))
MSL_UNARY(fabs, __builtin_fabsf(x))
MSL_UNARY(floor, __builtin_floorf(x))
MSL_UNARY(fract, __builtin_fminf(x - __builtin_floorf(x), 0x1.fffffep-1f))
MSL_UNARY(log, __builtin_logf(x))
MSL_UNARY(log10, __builtin_log10f(x))
MSL_UNARY(log2, __builtin_log2f(x))
MSL_UNARY(rint, __builtin_rintf(x))
MSL_UNARY(round, __builtin_roundf(x))
MSL_UNARY(rsqrt, 1.0f / __builtin_sqrtf(x))
MSL_UNARY(saturate, __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f))
MSL_UNARY(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x == 0 ? x : 0.0f)
MSL_UNARY(sin, __builtin_sinf(x))
MSL_UNARY(sinh, __builtin_sinhf(x))
MSL_UNARY(sinpi, static_cast<float>(__builtin_sin(3.14159265358979323846 * static_cast<double>(x))))
MSL_UNARY(sqrt, __builtin_sqrtf(x))
MSL_UNARY(tan, __builtin_tanf(x))
MSL_UNARY(tanh, __builtin_tanhf(x))
MSL_UNARY(tanpi, static_cast<float>(__builtin_tan(3.14159265358979323846 * static_cast<double>(x))))
MSL_UNARY(trunc, __builtin_truncf(x))
#undef MSL_UNARY

#define MSL_BINARY(name, expression)                                                                             \
  MSL_INLINE float name(float x, float y) { return expression; }                                                 \
  MSL_INLINE half name(half a, half b) { float x = a, y = b; return static_cast<half>(expression); }             \
  MSL_INLINE bfloat name(bfloat a, bfloat b) { float x = a, y = b; return bfloat(expression); }                  \
  template <class A, class B, class V = typename meeting<A, B>::type> MSL_INLINE V name(const A& a, const B& b) { \
    V x = widened<V>(a), y = widened<V>(b), result;                                                              \
    for (int i = 0; i < V::width; i++) result.elements[i] = name(x.elements[i], y.elements[i]);                  \
    return result;                                                                                               \
  }
MSL_BINARY(atan2, __builtin_atan2f(x, y))
MSL_BINARY(copysign, __builtin_copysignf(x, y))
MSL_BINARY(divide, x / y)
MSL_BINARY(fdim, __builtin_fdimf(x, y))
MSL_BINARY(fmax, __builtin_fmaxf(x, y))
MSL_BINARY(fmin, __builtin_fminf(x, y))
MSL_BINARY(fmod, __builtin_fmodf(x, y))
MSL_BINARY(pow, __builtin_powf(x, y))
MSL_BINARY(powr, x < 0 ? __builtin_nanf("") : __builtin_powf(x, y))
MSL_BINARY(step, y < x ? 0.0f : 1.0f)
#undef MSL_BINARY

MSL_INLINE float nextafter(float x, float y) { return __builtin_nextafterf(x, y); }
MSL_INLINE float modf(float x, float& whole) { return whole = __builtin_truncf(x), x - whole; }
MSL_INLINE float sincos(float x, float& cosine) { return cosine = __builtin_cosf(x), __builtin_sinf(x); }

// One overload for each type, as in Metal: max(float, int) is ambiguous there, and here.
#define MSL_FLOATING(T)                                                                                          \
  MSL_INLINE T max(T a, T b) { return T(__builtin_fmaxf(a, b)); }                                                \
  MSL_INLINE T min(T a, T b) { return T(__builtin_fminf(a, b)); }                                                \
  MSL_INLINE T clamp(T x, T low, T high) { return min(max(x, low), high); }                                      \
  MSL_INLINE T max3(T a, T b, T c) { return max(a, max(b, c)); }                                                 \
  MSL_INLINE T min3(T a, T b, T c) { return min(a, min(b, c)); }                                                 \
  MSL_INLINE T median3(T a, T b, T c) { return max(min(a, b), min(max(a, b), c)); }                              \
  MSL_INLINE T fmax3(T a, T b, T c) { return max3(a, b, c); }                                                    \
  MSL_INLINE T fmin3(T a, T b, T c) { return min3(a, b, c); }                                                    \
  MSL_INLINE T fmedian3(T a, T b, T c) { return median3(a, b, c); }                                              \
  MSL_INLINE T fma(T a, T b, T c) { return T(__builtin_fmaf(a, b, c)); }                                         \
  MSL_INLINE T mix(T x, T y, T a) { return T(float(x) + (float(y) - float(x)) * float(a)); }                     \
  MSL_INLINE T abs(T a) { return fabs(a); }                                                                      \
  MSL_INLINE bool isnan(T x) { return __builtin_isnan(float(x)); }                                               \
  MSL_INLINE bool isinf(T x) { return __builtin_isinf(float(x)); }                                               \
  MSL_INLINE bool isfinite(T x) { return __builtin_isfinite(float(x)); }                                         \
  MSL_INLINE bool isnormal(T x) { return isfinite(x) && fabs(x) >= numeric_limits<T>::min(); }                   \
  MSL_INLINE bool signbit(T x) { return __builtin_signbit(float(x)); }                                           \
  MSL_INLINE bool isordered(T x, T y) { return x == x && y == y; }                                               \
  MSL_INLINE bool isunordered(T x, T y) { return !isordered(x, y); }                                             \
  MSL_INLINE T ldexp(T x, int k) { return T(__builtin_ldexpf(x, k)); }                                           \
  MSL_INLINE T frexp(T x, int& exponent) { return T(__builtin_frexpf(x, &exponent)); }                           \
  MSL_INLINE int ilogb(T x) { return __builtin_ilogbf(x); }                                                      \
  MSL_INLINE T smoothstep(T low, T high, T x) {                                                                  \
    float t = saturate((float(x) - float(low)) / (float(high) - float(low)));                                    \
    return T(t * t * (3 - 2 * t));                                                                               \
  }
MSL_FLOATING(float)
MSL_FLOATING(half)
MSL_FLOATING(bfloat)
#undef MSL_FLOATING
}  // namespace metal
