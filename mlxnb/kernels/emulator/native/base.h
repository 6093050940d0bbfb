// Names of Metal's scalar types, and how functions are compiled here.
#pragma once
#include <limits>
#include <type_traits>

typedef __INT8_TYPE__ int8_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __INT16_TYPE__ int16_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef __UINTPTR_TYPE__ uintptr_t;
typedef __INTPTR_TYPE__ intptr_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;

#define MSL_INLINE inline __attribute__((always_inline))
// A call that Clang must not make one of two of; g++ is told so by its options.
#if defined(__clang__) && __has_attribute(nomerge)
#define MSL_UNMERGED __attribute__((nomerge))
#else
#define MSL_UNMERGED
#endif
// What the runner does on a kernel's behalf is no access of the kernel's.
#define MSL_UNSEEN __attribute__((no_sanitize("thread"), no_sanitize("undefined")))
