// The whole of the Metal Shading Language as kernels here see it; compiled once into a precompiled header.
#pragma once
#include "atomics.h"

namespace metal {
using ::bfloat, ::half, ::int16_t, ::int32_t, ::int64_t, ::int8_t, ::ptrdiff_t, ::size_t;
using ::uchar, ::uint, ::uint16_t, ::uint32_t, ::uint64_t, ::uint8_t, ::ulong, ::ushort;
}  // namespace metal

// Metal declares these outside the namespace as well.
#define MSL_GLOBAL(T)                                           \
  using metal::T##2, metal::T##3, metal::T##4;                  \
  using metal::packed_##T##2, metal::packed_##T##3, metal::packed_##T##4;
MSL_GLOBAL(float)
MSL_GLOBAL(half)
MSL_GLOBAL(bfloat)
MSL_GLOBAL(int)
MSL_GLOBAL(uint)
MSL_GLOBAL(short)
MSL_GLOBAL(ushort)
MSL_GLOBAL(char)
MSL_GLOBAL(uchar)
MSL_GLOBAL(long)
MSL_GLOBAL(ulong)
MSL_GLOBAL(bool)
using metal::as_type;

namespace msl {
// A built-in value, such as thread_position_in_grid, in the type that the kernel declares for it.
MSL_INLINE uint value(const uint& x) { return x; }
MSL_INLINE metal::uint3 value(const uint (&x)[3]) { return metal::uint3(x[0], x[1], x[2]); }
}  // namespace msl
