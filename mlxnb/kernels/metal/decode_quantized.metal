// A few queries over a quantised KV cache: dequantise in registers, split the keys, leave partial results.
//
// Formula. For every row (a query head's query) and every split of the keys: top = max s, total = Σ 2^(s − top),
// sums = Σ 2^(s − top) · v with s = log2(e) · (scale · q·k + mask) and k, v = scale · word + bias (MLX's affine
// quantisation). Online softmax: Milakov and Gimelshein 2018; tiles of it: FlashAttention (Dao et al. 2022, 2023);
// splits over the keys, joined by combine.metal: Flash-Decoding (Dao et al. 2023). No score matrix exists.
//
// Layout.
//   queries [B, KV · RATIO, LENGTH, DIM], any strides
//   keys, values [B, KV, S, DIM · BITS / 32] uint32, their scales and biases [B, KV, S, DIM / GROUP], any strides:
//     slices of mlx-lm's cache are read where they lie
//   mask [B, KV, RATIO, LENGTH, S], any strides, 0 where it broadcasts (MASK: 0 none, 1 causal, 2 boolean, 3 additive)
//   sums [B, KV · RATIO, LENGTH, splits, DIM], tops and totals [B, KV · RATIO, LENGTH, splits], float32
//
// Thread mapping. Threadgroup (·, b · KV + h, split): all RATIO × LENGTH rows of one KV head over one split of the
// keys. LANES lanes, ELEMENTS of head_dim each, are a worker; a simdgroup has 32 / LANES workers on neighbouring
// keys, so that a load covers whole rows that follow each other, and each takes four keys between two updates of the
// softmax.
//   STAGED false (few rows): every simdgroup holds all the rows and takes keys of its own; no barrier in the loop.
//   STAGED true (many rows): a simdgroup holds ROWS of them, and a tile of packed keys and values is staged in
//     threadgroup memory for all.
// Registers bound ROWS × ELEMENTS: queries and sums take 2 · ROWS · ELEMENTS of a lane's 128.
//
// Bytes. Every word, scale and bias of K and V once: 2 · B · KV · S · (DIM · BITS / 8 + 2 · DIM / GROUP · scale bytes).
// A scale is loaded by one lane of its group and shuffled to the others; a mask value is loaded once a row and key.
//
// Checked on a CPU only; it was not run on Metal.

constexpr int BATCH = 4;  // keys a worker takes between two updates of the softmax
constexpr int WORKERS = 32 / LANES;
constexpr int STEP = WORKERS * BATCH;  // keys a simdgroup takes at once
constexpr int TILE = STAGED ? 32 : SIMDGROUPS * STEP;
constexpr int HEIGHT = RATIO * LENGTH;
constexpr int PER_WORD = 32 / BITS;
constexpr int WORDS = ELEMENTS < PER_WORD ? 1 : ELEMENTS / PER_WORD;  // a lane's words of a key
constexpr int SHARERS = ELEMENTS < PER_WORD ? PER_WORD / ELEMENTS : 1;  // lanes to a word
constexpr int ROW_WORDS = DIM / PER_WORD;
constexpr int ROW_GROUPS = DIM / GROUP;
constexpr int MEMBERS = GROUP / ELEMENTS;  // lanes to a group: at least BATCH

threadgroup uint key_tile[STAGED ? TILE * ROW_WORDS : 1], value_tile[STAGED ? TILE * ROW_WORDS : 1];
threadgroup float2 key_affines[STAGED ? TILE * ROW_GROUPS : 1], value_affines[STAGED ? TILE * ROW_GROUPS : 1];
threadgroup float board[STAGED ? 1 : SIMDGROUPS * ROWS * DIM];
threadgroup float board_tops[STAGED ? 1 : SIMDGROUPS * ROWS], board_totals[STAGED ? 1 : SIMDGROUPS * ROWS];

const int kv_heads = keys_shape[1], length = keys_shape[2];
const int pair = threadgroup_position_in_grid.y, batch = pair / kv_heads, head = pair % kv_heads;
const int split = threadgroup_position_in_grid.z, splits = threadgroups_per_grid.z;
const int chunk = (length + splits * TILE - 1) / (splits * TILE) * TILE;
const int start = split * chunk, end = min(length, start + chunk);
const int thread_index = thread_position_in_threadgroup.x, lane = thread_index_in_simdgroup;
const int simd = simdgroup_index_in_threadgroup, worker = lane / LANES, part = lane % LANES;
const int first = part * ELEMENTS, member = part % MEMBERS;
const bool active = first < DIM;  // head_dim 96 leaves some lanes over
const int first_row = STAGED ? simd * ROWS : 0;

auto key_words = keys + batch * keys_strides[0] + head * keys_strides[1];
auto value_words = values + batch * values_strides[0] + head * values_strides[1];
auto key_scale = key_scales + batch * key_scales_strides[0] + head * key_scales_strides[1];
auto key_bias = key_biases + batch * key_biases_strides[0] + head * key_biases_strides[1];
auto value_scale = value_scales + batch * value_scales_strides[0] + head * value_scales_strides[1];
auto value_bias = value_biases + batch * value_biases_strides[0] + head * value_biases_strides[1];

float query[ROWS][ELEMENTS], sum[ROWS][ELEMENTS], top[ROWS], total[ROWS];
for (int r = 0; r < ROWS; r++) {
  const int row = first_row + r;
  top[r] = -INFINITY;
  total[r] = 0.0f;
  for (int i = 0; i < ELEMENTS; i++) query[r][i] = sum[r][i] = 0.0f;
  if (active && row < HEIGHT)
    gather<ELEMENTS>(queries + batch * queries_strides[0] + (head * RATIO + row / LENGTH) * queries_strides[1] +
                         (row % LENGTH) * queries_strides[2] + first * queries_strides[3],
                     queries_strides[3], query[r]);
}

for (int tile = start; tile < end; tile += TILE) {
  if (STAGED) {
    for (int i = thread_index; i < TILE * ROW_WORDS; i += SIMDGROUPS * 32) {
      const int key = tile + i / ROW_WORDS, word = i % ROW_WORDS;
      key_tile[i] = key < end ? key_words[key * keys_strides[2] + word * keys_strides[3]] : 0;
      value_tile[i] = key < end ? value_words[key * values_strides[2] + word * values_strides[3]] : 0;
    }
    for (int i = thread_index; i < TILE * ROW_GROUPS; i += SIMDGROUPS * 32) {
      const int key = tile + i / ROW_GROUPS, group = i % ROW_GROUPS;
      float2 of_key = 0.0f, of_value = 0.0f;
      if (key < end) {
        of_key = load_affine(key_scale + key * key_scales_strides[2] + group * key_scales_strides[3],
                             key_bias + key * key_biases_strides[2] + group * key_biases_strides[3]);
        of_value = load_affine(value_scale + key * value_scales_strides[2] + group * value_scales_strides[3],
                               value_bias + key * value_biases_strides[2] + group * value_biases_strides[3]);
      }
      key_affines[i] = of_key;
      value_affines[i] = of_value;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (int base = STAGED ? 0 : simd * STEP; base < TILE; base += STAGED ? STEP : TILE) {
    // Lane u of a group loads the scale and bias of key u, for K and for V.
    float2 key_affine = 0.0f, value_affine = 0.0f;
    if (active && member < BATCH) {
      const int slot = base + member * WORKERS + worker, key = tile + slot, group = first / GROUP;
      if (STAGED) {
        key_affine = key_affines[slot * ROW_GROUPS + group];
        value_affine = value_affines[slot * ROW_GROUPS + group];
      } else if (key < end) {
        key_affine = load_affine(key_scale + key * key_scales_strides[2] + group * key_scales_strides[3],
                                 key_bias + key * key_biases_strides[2] + group * key_biases_strides[3]);
        value_affine = load_affine(value_scale + key * value_scales_strides[2] + group * value_scales_strides[3],
                                   value_bias + key * value_biases_strides[2] + group * value_biases_strides[3]);
      }
    }

    float4 scores[ROWS];
    for (int r = 0; r < ROWS; r++) scores[r] = 0.0f;
    for (int u = 0; u < BATCH; u++) {
      const int slot = base + u * WORKERS + worker, key = tile + slot, word = first / PER_WORD;
      uint words[WORDS];
      for (int w = 0; w < WORDS; w++) words[w] = 0;
      if (active && STAGED) {
        for (int w = 0; w < WORDS; w++) words[w] = key_tile[slot * ROW_WORDS + word + w];
      } else if (active && key < end && part % SHARERS == 0) {
        auto from = key_words + key * keys_strides[2] + word * keys_strides[3];
        for (int w = 0; w < WORDS; w++) words[w] = from[w * keys_strides[3]];
      }
      if (!STAGED && SHARERS > 1) words[0] = simd_shuffle(words[0], ushort(lane - part % SHARERS));
      const float2 affine = simd_shuffle(key_affine, ushort(lane - member + u));
      float share[ELEMENTS];
      dequantise<BITS, ELEMENTS>(words, first, affine, share);
      for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < ELEMENTS; i++) scores[r][u] += query[r][i] * share[i];
    }

    for (int r = 0; r < ROWS; r++) {
      const int row = first_row + r, at = row % LENGTH;
      scores[r] *= scale * LOG2E;
      // Before the lanes' shares are added up, lane u of a worker adds what the mask says of key u.
      if (part < BATCH) {
        const int key = tile + base + part * WORKERS + worker;
        float added = key < end ? 0.0f : -INFINITY;
        if (MASK == 1 && key > length - LENGTH + at) added = -INFINITY;
        if (MASK >= 2 && key < end && row < HEIGHT) {
          const float value = static_cast<float>(
              mask[batch * mask_strides[0] + head * mask_strides[1] + row / LENGTH * mask_strides[2] +
                   at * mask_strides[3] + key * mask_strides[4]]);
          added = MASK == 3 ? value * LOG2E : value == 0.0f ? -INFINITY : 0.0f;
        }
        for (int u = 0; u < BATCH; u++) scores[r][u] += part == u ? added : 0.0f;
      }
      for (ushort step = 1; step < LANES; step *= 2) scores[r] += simd_shuffle_xor(scores[r], step);
      const float factor = see(scores[r], top[r], total[r]);
      for (int i = 0; i < ELEMENTS; i++) sum[r][i] *= factor;
    }

    for (int u = 0; u < BATCH; u++) {
      const int slot = base + u * WORKERS + worker, key = tile + slot, word = first / PER_WORD;
      uint words[WORDS];
      for (int w = 0; w < WORDS; w++) words[w] = 0;
      if (active && STAGED) {
        for (int w = 0; w < WORDS; w++) words[w] = value_tile[slot * ROW_WORDS + word + w];
      } else if (active && key < end && part % SHARERS == 0) {
        auto from = value_words + key * values_strides[2] + word * values_strides[3];
        for (int w = 0; w < WORDS; w++) words[w] = from[w * values_strides[3]];
      }
      if (!STAGED && SHARERS > 1) words[0] = simd_shuffle(words[0], ushort(lane - part % SHARERS));
      const float2 affine = simd_shuffle(value_affine, ushort(lane - member + u));
      float share[ELEMENTS];
      dequantise<BITS, ELEMENTS>(words, first, affine, share);
      for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < ELEMENTS; i++) sum[r][i] += scores[r][u] * share[i];
    }
  }
  if (STAGED) threadgroup_barrier(mem_flags::mem_threadgroup);
}
