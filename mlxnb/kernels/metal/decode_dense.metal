// A few queries over a cache in bfloat16, float16 or float32: split the keys, leave partial results.
//
// Formula. For every row (a query head's query) and every split of the keys: top = max s, total = Σ 2^(s − top),
// sums = Σ 2^(s − top) · v with s = log2(e) · (scale · q·k + mask), all in float32. Online softmax: Milakov and
// Gimelshein 2018; tiles of it: FlashAttention (Dao et al. 2022, 2023); splits over the keys, joined by
// combine.metal: Flash-Decoding (Dao et al. 2023). No score matrix exists.
//
// Layout.
//   queries [B, KV · RATIO, LENGTH, DIM], keys and values [B, KV, S, DIM] of CACHE, any strides: slices of mlx-lm's
//     cache are read where they lie
//   mask [B, KV, RATIO, LENGTH, S], any strides, 0 where it broadcasts (MASK: 0 none, 1 causal, 2 boolean, 3 additive)
//   sums [B, KV · RATIO, LENGTH, splits, DIM], tops and totals [B, KV · RATIO, LENGTH, splits], float32
//
// Thread mapping. That of decode_quantized.metal: a threadgroup has all RATIO × LENGTH rows of one KV head over one
// split; LANES lanes are a worker, four keys between two updates of the softmax; with few rows every simdgroup holds
// them all and takes keys of its own, with many (STAGED) a tile of keys and values in threadgroup memory serves all.
//
// Bytes. Every element of K and V once: 2 · B · KV · S · DIM · sizeof(CACHE). A mask value is loaded once a row and
// key.
//
// Checked on a CPU only; it was not run on Metal.

constexpr int BATCH = 4;  // keys a worker takes between two updates of the softmax
constexpr int WORKERS = 32 / LANES;
constexpr int STEP = WORKERS * BATCH;  // keys a simdgroup takes at once
constexpr int ROW_BYTES = DIM * sizeof(CACHE);
constexpr int STAGED_KEYS = ROW_BYTES <= 256 ? 32 : ROW_BYTES <= 512 ? 16 : 8;  // both tiles in 16 KiB
constexpr int TILE = STAGED ? STAGED_KEYS : SIMDGROUPS * STEP;
constexpr int HEIGHT = RATIO * LENGTH;

threadgroup CACHE key_tile[STAGED ? TILE * DIM : 1], value_tile[STAGED ? TILE * DIM : 1];
threadgroup float board[STAGED ? 1 : SIMDGROUPS * ROWS * DIM];
threadgroup float board_tops[STAGED ? 1 : SIMDGROUPS * ROWS], board_totals[STAGED ? 1 : SIMDGROUPS * ROWS];

const int kv_heads = keys_shape[1], length = keys_shape[2];
const int pair = threadgroup_position_in_grid.y, batch = pair / kv_heads, head = pair % kv_heads;
const int split = threadgroup_position_in_grid.z, splits = threadgroups_per_grid.z;
const int chunk = (length + splits * TILE - 1) / (splits * TILE) * TILE;
const int start = split * chunk, end = min(length, start + chunk);
const int thread_index = thread_position_in_threadgroup.x, lane = thread_index_in_simdgroup;
const int simd = simdgroup_index_in_threadgroup, worker = lane / LANES, part = lane % LANES;
const int first = part * ELEMENTS;
const bool active = first < DIM;
const int first_row = STAGED ? simd * ROWS : 0;

auto head_keys = keys + batch * keys_strides[0] + head * keys_strides[1];
auto head_values = values + batch * values_strides[0] + head * values_strides[1];

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
    for (int i = thread_index; i < TILE * DIM; i += SIMDGROUPS * 32) {
      const int key = tile + i / DIM, element = i % DIM;
      key_tile[i] = key < end ? head_keys[key * keys_strides[2] + element * keys_strides[3]] : CACHE(0.0f);
      value_tile[i] = key < end ? head_values[key * values_strides[2] + element * values_strides[3]] : CACHE(0.0f);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (int base = STAGED ? 0 : simd * STEP; base < TILE; base += STAGED ? STEP : TILE) {
    float4 scores[ROWS];
    for (int r = 0; r < ROWS; r++) scores[r] = 0.0f;
    for (int u = 0; u < BATCH; u++) {
      const int slot = base + u * WORKERS + worker, key = tile + slot;
      float share[ELEMENTS];
      for (int i = 0; i < ELEMENTS; i++) share[i] = 0.0f;
      if (active && STAGED)
        gather<ELEMENTS>(key_tile + slot * DIM + first, 1, share);
      else if (active && key < end)
        gather<ELEMENTS>(head_keys + key * keys_strides[2] + first * keys_strides[3], keys_strides[3], share);
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
      const int slot = base + u * WORKERS + worker, key = tile + slot;
      float share[ELEMENTS];
      for (int i = 0; i < ELEMENTS; i++) share[i] = 0.0f;
      if (active && STAGED)
        gather<ELEMENTS>(value_tile + slot * DIM + first, 1, share);
      else if (active && key < end)
        gather<ELEMENTS>(head_values + key * values_strides[2] + first * values_strides[3], values_strides[3], share);
      for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < ELEMENTS; i++) sum[r][i] += scores[r][u] * share[i];
    }
  }
  if (STAGED) threadgroup_barrier(mem_flags::mem_threadgroup);
}
