// Functions that the attention kernels share: a softmax that is built up key by key, in float32.
//
// Formula (M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018; its use inside attention:
// T. Dao et al., "FlashAttention", 2022). A row that has seen some of its keys is three values,
//     top = max s,   total = Σ 2^(s − top),   sums = Σ 2^(s − top) · v,
// and two such rows over different keys join into one by bringing both to the higher top. Scores are in units of
// log2 (they come multiplied by log2 e), so that one exp2 is enough.
//
// A key that may not be seen has the score minus infinity and weighs nothing; a row that has seen nothing has
// top = −∞, total = 0, sums = 0. No infinity is ever subtracted from another, so no NaN arises. This counts on
// Metal's "safe" math mode, which MLX compiles custom kernels with.
//
// Checked on a CPU only; it was not run on Metal.

constexpr constant float LOG2E = 1.44269504f;

// What scores are measured from: their maximum, or 0 where nothing was seen.
inline float reference_of(float top) { return top == -INFINITY ? 0.0f : top; }

inline float weight_of(float score, float reference) {
  return score == -INFINITY ? 0.0f : fast::exp2(score - reference);
}

// One row sees four more keys: their scores become their weights, and the answer is the factor that brings what
// the row had summed up before to the new top.
inline float see(thread float4& scores, thread float& top, thread float& total) {
  const float higher = max(top, max(max(scores.x, scores.y), max(scores.z, scores.w)));
  const float reference = reference_of(higher);
  const float factor = weight_of(top, reference);
  for (int i = 0; i < 4; i++) scores[i] = weight_of(scores[i], reference);
  total = total * factor + (scores.x + scores.y) + (scores.z + scores.w);
  top = higher;
  return factor;
}

// Joins the rows of the workers in a simdgroup, each LANES lanes wide and with keys of its own; all get the result.
template <int LANES, int ELEMENTS>
inline void join_workers(thread float& top, thread float& total, thread float* sums) {
  for (ushort step = LANES; step < 32; step *= 2) {
    const float higher = max(top, simd_shuffle_xor(top, step));
    const float factor = weight_of(top, reference_of(higher));
    total = total * factor;
    total += simd_shuffle_xor(total, step);
    for (int i = 0; i < ELEMENTS; i++) {
      sums[i] *= factor;
      sums[i] += simd_shuffle_xor(sums[i], step);
    }
    top = higher;
  }
}

// COUNT neighbours along head_dim as float32. The step between them is 1 in every cache that mlx-lm makes, and that
// case is apart so that the compiler can load them together. `Pointer` takes whichever address space the array has.
template <int COUNT, typename Pointer>
inline void gather(Pointer from, long step, thread float* to) {
  if (step == 1) {
    for (int i = 0; i < COUNT; i++) to[i] = static_cast<float>(from[i]);
  } else {
    for (int i = 0; i < COUNT; i++) to[i] = static_cast<float>(from[i * step]);
  }
}
