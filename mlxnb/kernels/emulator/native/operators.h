// Arithmetic, bitwise and relational operators of vectors, element by element; a scalar stands for a whole vector.
#pragma once
#include "vectors.h"

namespace metal {
template <class X> struct vector_traits { static constexpr int width = 0; };
template <class T, int N> struct vector_traits<vec<T, N>> {
  typedef T element;
  typedef vec<T, N> type;
  static constexpr int width = N;
};
template <class T, int N, int... I> struct vector_traits<swizzle<T, N, I...>> {
  typedef T element;
  typedef vec<T, sizeof...(I)> type;
  static constexpr int width = sizeof...(I);
};

// The vector that an argument is: a swizzle stands for the one that it gives.
template <class A> using vector_of = typename enable_if_t<(vector_traits<A>::width > 0), vector_traits<A>>::type;
// The vector type in which two operands meet.
template <class A, class B, bool = (vector_traits<A>::width > 0), bool = (vector_traits<B>::width > 0)> struct meeting {};
template <class A, class B> struct meeting<A, B, true, true> {
  static_assert(vector_traits<A>::width == vector_traits<B>::width &&
                    is_same_v<typename vector_traits<A>::element, typename vector_traits<B>::element>,
                "Metal has no implicit conversion between vector types");
  typedef typename vector_traits<A>::type type;
};
template <class A, class B> struct meeting<A, B, true, false> {
  typedef enable_if_t<is_arithmetic_v<B>, typename vector_traits<A>::type> type;
};
template <class A, class B> struct meeting<A, B, false, true> {
  typedef enable_if_t<is_arithmetic_v<A>, typename vector_traits<B>::type> type;
};
template <class V, class X> MSL_INLINE V widened(const X& x) {
  if constexpr (vector_traits<X>::width > 0) return V(x);
  else return V(static_cast<typename V::element_type>(x));
}

#define MSL_BINARY(op)                                                                                           \
  template <class A, class B, class V = typename meeting<A, B>::type> MSL_INLINE V operator op(const A& a, const B& b) { \
    V x = widened<V>(a), y = widened<V>(b), result;                                                              \
    for (int i = 0; i < V::width; i++) result.elements[i] = x.elements[i] op y.elements[i];                      \
    return result;                                                                                               \
  }                                                                                                              \
  template <class T, int N, class B, class V = typename meeting<vec<T, N>, B>::type>                             \
  MSL_INLINE vec<T, N>& operator op##=(vec<T, N>& a, const B& b) { return a = a op b; }
MSL_BINARY(+)
MSL_BINARY(-)
MSL_BINARY(*)
MSL_BINARY(/)
MSL_BINARY(%)
MSL_BINARY(&)
MSL_BINARY(|)
MSL_BINARY(^)
MSL_BINARY(<<)
MSL_BINARY(>>)
#undef MSL_BINARY

#define MSL_RELATION(op)                                                                                         \
  template <class A, class B, class V = typename meeting<A, B>::type>                                            \
  MSL_INLINE vec<bool, V::width> operator op(const A& a, const B& b) {                                           \
    V x = widened<V>(a), y = widened<V>(b);                                                                      \
    vec<bool, V::width> result;                                                                                  \
    for (int i = 0; i < V::width; i++) result.elements[i] = x.elements[i] op y.elements[i];                      \
    return result;                                                                                               \
  }
MSL_RELATION(==)
MSL_RELATION(!=)
MSL_RELATION(<)
MSL_RELATION(>)
MSL_RELATION(<=)
MSL_RELATION(>=)
MSL_RELATION(&&)
MSL_RELATION(||)
#undef MSL_RELATION

#define MSL_UNARY(op)                                                                                            \
  template <class T, int N> MSL_INLINE vec<T, N> operator op(const vec<T, N>& a) {                               \
    vec<T, N> result;                                                                                            \
    for (int i = 0; i < N; i++) result.elements[i] = op a.elements[i];                                           \
    return result;                                                                                               \
  }                                                                                                              \
  template <class T, int N, int... I> MSL_INLINE vec<T, sizeof...(I)> operator op(const swizzle<T, N, I...>& a) { \
    return op a.as_vec();                                                                                        \
  }
MSL_UNARY(+)
MSL_UNARY(-)
MSL_UNARY(~)
MSL_UNARY(!)
#undef MSL_UNARY

template <class T, int N> MSL_INLINE vec<T, N>& operator++(vec<T, N>& a) { return a = a + static_cast<T>(1); }
template <class T, int N> MSL_INLINE vec<T, N>& operator--(vec<T, N>& a) { return a = a - static_cast<T>(1); }

// The bits of a value as another type of the same size.
template <class To, class From> MSL_INLINE constexpr To as_type(const From& value) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs two types of the same size");
  if constexpr (std::is_trivially_copyable<To>::value && std::is_trivially_copyable<From>::value) {
    return __builtin_bit_cast(To, value);
  } else {
    To result;
    __builtin_memcpy((void*)&result, (const void*)&value, sizeof result);
    return result;
  }
}
}  // namespace metal
