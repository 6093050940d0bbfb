// MLX's affine quantisation, taken apart in registers: w = scale · q + bias, one scale and bias a group.
//
// Layout (mx.quantize): 32 / BITS values to a uint32 word, the first in the lowest bits, words in order along head_dim.
//
// Checked on a CPU only; it was not run on Metal.

// A group's scale and bias, from whichever address space they are in.
template <typename Scale, typename Bias>
inline float2 load_affine(Scale scale, Bias bias) {
  return float2(static_cast<float>(*scale), static_cast<float>(*bias));
}

// COUNT values from the words that hold them. `first` is the place along head_dim of the first: where a lane's share
// is less than a word, it says which part of the word is meant.
template <int BITS, int COUNT>
inline void dequantise(const thread uint* words, int first, float2 affine, thread float* to) {
  constexpr int PER_WORD = 32 / BITS;
  constexpr uint LARGEST = (1u << BITS) - 1;
  const int skipped = COUNT < PER_WORD ? first % PER_WORD : 0;
  for (int i = 0; i < COUNT; i++) {
    const int shift = (skipped + i % PER_WORD) * BITS;
    to[i] = static_cast<float>((words[i / PER_WORD] >> shift) & LARGEST) * affine.x + affine.y;
  }
}
