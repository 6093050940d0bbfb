// simdgroup_matrix: 8 × 8 elements over 32 lanes, two a lane, in the layout that MLX's steel/gemm/mma.h states.
#pragma once
#include "lanes.h"

namespace metal {
namespace matrix_layout {
MSL_INLINE uint row(uint lane) { return (lane / 4 & 4) + lane / 2 % 4; }
MSL_INLINE uint column(uint lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2; }
}  // namespace matrix_layout

template <class T, int rows = 8, int columns = 8> struct simdgroup_matrix {
  static_assert(rows == 8 && columns == 8, "Metal has 8 x 8 matrices only");
  vec<T, 2> pair;
  simdgroup_matrix() = default;
  simdgroup_matrix(T diagonal) : pair(T(0), T(0)) {
    uint row = matrix_layout::row(msl::msl_lane()), column = matrix_layout::column(msl::msl_lane());
    if (row == column || row == column + 1) pair.elements[row - column] = diagonal;
  }
  vec<T, 2>& thread_elements() { return pair; }
  const vec<T, 2>& thread_elements() const { return pair; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int R, int C> MSL_INLINE simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, R, C> result;
  result.pair = vec<T, 2>(value, value);
  return result;
}
MSL_INLINE ulong matrix_offset(int k, ulong per_row, ulong2 origin, bool transposed) {
  ulong row = matrix_layout::row(msl::msl_lane()), column = matrix_layout::column(msl::msl_lane()) + k;
  return (origin.y + (transposed ? column : row)) * per_row + origin.x + (transposed ? row : column);
}
template <class T>
MSL_INLINE void simdgroup_load(simdgroup_matrix<T>& to, const T* from, ulong per_row = 8, ulong2 origin = ulong2(0, 0),
                               bool transposed = false) {
  for (int k = 0; k < 2; k++) to.pair.elements[k] = from[matrix_offset(k, per_row, origin, transposed)];
}
template <class T>
MSL_INLINE void simdgroup_store(simdgroup_matrix<T> from, T* to, ulong per_row = 8, ulong2 origin = ulong2(0, 0),
                                bool transposed = false) {
  for (int k = 0; k < 2; k++) to[matrix_offset(k, per_row, origin, transposed)] = from.pair.elements[k];
}

template <class D, class A, class B, class C> struct Product8 {
  D* d;
  const A* a;
  const B* b;
  const C* c;
};
// Accumulates in float, whatever the elements' types.
template <class D, class A, class B, class C> struct Multiply8 {
  MSL_UNSEEN static void run(uint32_t mask, void* const* in, void* const* out, const uint64_t*) {
    float a[8][8] = {}, b[8][8] = {}, c[8][8] = {};
    if (mask != 0xffffffffu) msl::msl_inactive_lane(__builtin_ctz(mask), __builtin_ctz(~mask));
    MSL_LANES(mask) for (int k = 0; k < 2; k++) {
      auto& lane = *static_cast<const Product8<D, A, B, C>*>(in[i]);
      uint row = matrix_layout::row(i), column = matrix_layout::column(i) + k;
      a[row][column] = static_cast<float>(lane.a->elements[k]);
      b[row][column] = static_cast<float>(lane.b->elements[k]);
      c[row][column] = static_cast<float>(lane.c->elements[k]);
    }
    for (int row = 0; row < 8; row++)
      for (int k = 0; k < 8; k++)
        for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    MSL_LANES(mask) {
      auto& lane = *static_cast<const Product8<D, A, B, C>*>(in[i]);
      for (int k = 0; k < 2; k++)
        lane.d->elements[k] =
            static_cast<typename D::element_type>(c[matrix_layout::row(i)][matrix_layout::column(i) + k]);
      *static_cast<char*>(out[i]) = 0;
    }
  }
};
template <class D, class A, class B, class C>
MSL_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D>& d, simdgroup_matrix<A> a, simdgroup_matrix<B> b,
                                              simdgroup_matrix<C> c, MSL_CALLER) {
  typedef Product8<vec<D, 2>, vec<A, 2>, vec<B, 2>, vec<C, 2>> In;
  collective<Multiply8<vec<D, 2>, vec<A, 2>, vec<B, 2>, vec<C, 2>>, In, char>(
      In{&d.pair, &a.pair, &b.pair, &c.pair}, 0, MSL_WHERE, "simdgroup_multiply_accumulate");
}
template <class D, class A, class B>
MSL_INLINE void simdgroup_multiply(simdgroup_matrix<D>& d, simdgroup_matrix<A> a, simdgroup_matrix<B> b,
                                   MSL_CALLER) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0)), file, line);
}
template <class T> MSL_INLINE simdgroup_matrix<T> operator*(simdgroup_matrix<T> a, simdgroup_matrix<T> b) {
  simdgroup_matrix<T> result;
  simdgroup_multiply(result, a, b);
  return result;
}
}  // namespace metal
