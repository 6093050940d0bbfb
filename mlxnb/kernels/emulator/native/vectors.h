// metal::vec<T, N> for N = 2, 3, 4, with its swizzles (generated into swizzles.inc) and its conversions.
#pragma once
#include "traits.h"

namespace metal {
template <class T, int N> struct vec;

// A swizzle such as `v.zx` is a member that lies over the vector's own elements.
template <class T, int N, int... I> struct swizzle {
  static constexpr int width = sizeof...(I);
  T elements[N == 3 ? 4 : N];
  MSL_INLINE operator vec<T, width>() const { return vec<T, width>(elements[I]...); }
  MSL_INLINE vec<T, width> as_vec() const { return *this; }
  MSL_INLINE swizzle& operator=(const vec<T, width>& value) {
    vec<T, width> copy = value;  // `v.xy = v.yx` reads before it writes
    int k = 0;
    ((elements[I] = copy.elements[k++]), ...);
    return *this;
  }
  MSL_INLINE swizzle& operator=(const swizzle& other) { return *this = other.as_vec(); }
  template <class B> MSL_INLINE swizzle& operator+=(const B& b) { return *this = as_vec() + b; }
  template <class B> MSL_INLINE swizzle& operator-=(const B& b) { return *this = as_vec() - b; }
  template <class B> MSL_INLINE swizzle& operator*=(const B& b) { return *this = as_vec() * b; }
  template <class B> MSL_INLINE swizzle& operator/=(const B& b) { return *this = as_vec() / b; }
};
}  // namespace metal
#include "swizzles.inc"

namespace msl {
// A copy goes through registers the compiler cannot see into, so that a float4 is read as one access of 16 bytes;
// otherwise it is taken apart and elements that nobody uses are never counted.
typedef uint32_t quad __attribute__((vector_size(16)));
template <class R, int alignment> MSL_INLINE void move(void* to, const void* from) {
  typedef R __attribute__((may_alias, aligned(alignment))) alias;
  R value = *static_cast<const alias*>(from);
  if constexpr (sizeof(R) < 16) asm("" : "+r"(value));
#if defined(__x86_64__)
  else asm("" : "+x"(value));
#elif defined(__aarch64__)
  else asm("" : "+w"(value));
#endif
  *static_cast<alias*>(to) = value;
}
template <int bytes, int alignment> MSL_INLINE void copy(void* to, const void* from) {
  constexpr int part = bytes >= 16 ? 16 : bytes >= 8 ? 8 : bytes >= 4 ? 4 : bytes >= 2 ? 2 : 1;
  if constexpr (part == 16) move<quad, alignment>(to, from);
  else if constexpr (part == 8) move<uint64_t, alignment>(to, from);
  else if constexpr (part == 4) move<uint32_t, alignment>(to, from);
  else if constexpr (part == 2) move<uint16_t, alignment>(to, from);
  else move<uint8_t, alignment>(to, from);
  if constexpr (bytes > part) copy<bytes - part, alignment>(static_cast<char*>(to) + part, static_cast<const char*>(from) + part);
}
}  // namespace msl

namespace metal {
#define MSL_VECTOR(N)                                                                                             \
  typedef T element_type;                                                                                         \
  static constexpr int width = N;                                                                                 \
  MSL_INLINE const vec& as_vec() const { return *this; }                                                          \
  vec() = default;                                                                                                \
  MSL_INLINE vec(const vec& other) { msl::copy<sizeof(vec), alignof(vec)>((void*)this, (const void*)&other); }    \
  MSL_INLINE vec& operator=(const vec& other) {                                                                   \
    msl::copy<sizeof(vec), alignof(vec)>((void*)this, (const void*)&other);                                       \
    return *this;                                                                                                 \
  }                                                                                                               \
  constexpr vec(T value) : elements{} { for (int i = 0; i < N; i++) elements[i] = value; }                        \
  template <class U, std::enable_if_t<!is_same_v<U, T> && is_arithmetic_v<U>, int> = 0>                           \
  constexpr vec(U value) : elements{} { for (int i = 0; i < N; i++) elements[i] = static_cast<T>(value); }        \
  template <class U, std::enable_if_t<!is_same_v<U, T>, int> = 0>                                                 \
  explicit constexpr vec(const vec<U, N>& other) : elements{} {                                                   \
    for (int i = 0; i < N; i++) elements[i] = static_cast<T>(other.elements[i]);                                  \
  }                                                                                                               \
  template <class A, class B, class... Rest> constexpr vec(const A& a, const B& b, const Rest&... rest) : elements{} { \
    int end = put(put(0, a), b);                                                                                  \
    ((end = put(end, rest)), ...);                                                                                \
    static_assert(msl::widths<A, B, Rest...> == N, "a vector's arguments must fill it exactly");                  \
  }                                                                                                               \
  template <class A> constexpr int put(int at, const A& part) {                                                   \
    if constexpr (is_arithmetic_v<A>) elements[at++] = static_cast<T>(part);                                      \
    else for (int k = 0; k < part.as_vec().width; k++) elements[at++] = part.as_vec().elements[k];                \
    return at;                                                                                                    \
  }                                                                                                               \
  constexpr T& operator[](int i) { return elements[i]; }                                                          \
  constexpr const T& operator[](int i) const { return elements[i]; }
}  // namespace metal

namespace msl {
template <class A> constexpr int width_of() {
  if constexpr (metal::is_arithmetic_v<A>) return 1;
  else return A::width;
}
template <class... A> constexpr int widths = (width_of<A>() + ...);
}  // namespace msl

namespace metal {
template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
  union {
    T elements[2];
    struct { T x, y; };
    struct { T r, g; };
    MSL_SWIZZLES2(T)
  };
  MSL_VECTOR(2)
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {
  union {
    T elements[4];
    struct { T x, y, z; };
    struct { T r, g, b; };
    MSL_SWIZZLES3(T)
  };
  MSL_VECTOR(3)
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
  union {
    T elements[4];
    struct { T x, y, z, w; };
    struct { T r, g, b, a; };
    MSL_SWIZZLES4(T)
  };
  MSL_VECTOR(4)
};
#undef MSL_VECTOR

// The packed types have their elements' alignment; only the three-wide one differs in size from its vec.
template <class T, int N> struct packed_vec {
  T elements[N];
  packed_vec() = default;
  MSL_INLINE packed_vec(const packed_vec& other) { *this = other; }
  MSL_INLINE packed_vec(const vec<T, N>& value) { *this = value; }
  MSL_INLINE packed_vec& operator=(const packed_vec& other) { return take(other.elements); }
  MSL_INLINE packed_vec& operator=(const vec<T, N>& value) { return take(value.elements); }
  MSL_INLINE operator vec<T, N>() const {
    vec<T, N> result;
    msl::copy<sizeof(T) * N, sizeof(T)>(result.elements, elements);
    return result;
  }
  T& operator[](int i) { return elements[i]; }
  const T& operator[](int i) const { return elements[i]; }

 private:
  MSL_INLINE packed_vec& take(const T* from) {
    msl::copy<sizeof(T) * N, sizeof(T)>(elements, from);
    return *this;
  }
};
#define MSL_NAMES(T)                                                                      \
  typedef vec<T, 2> T##2;                                                                 \
  typedef vec<T, 3> T##3;                                                                 \
  typedef vec<T, 4> T##4;                                                                 \
  typedef packed_vec<T, 2> packed_##T##2;                                                 \
  typedef packed_vec<T, 3> packed_##T##3;                                                 \
  typedef packed_vec<T, 4> packed_##T##4;
MSL_NAMES(float)
MSL_NAMES(half)
MSL_NAMES(bfloat)
MSL_NAMES(int)
MSL_NAMES(uint)
MSL_NAMES(short)
MSL_NAMES(ushort)
MSL_NAMES(char)
MSL_NAMES(uchar)
MSL_NAMES(long)
MSL_NAMES(ulong)
MSL_NAMES(bool)
#undef MSL_NAMES
}  // namespace metal
