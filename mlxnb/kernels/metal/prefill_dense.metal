// Many queries over a dense cache, for prompts: tiles of keys, online softmax, 8 × 8 matrix products.
//
// Formula. For a block of rows and tile after tile of the keys: S = log2(e) · (scale · Q Kᵀ + mask),
// top' = max(top, row max S), P = 2^(S − top'), total' = 2^(top − top') total + row sum P, O' = 2^(top − top') O + P V;
// at the end O / (total + 2^(sink − top)). FlashAttention (Dao et al. 2022) and FlashAttention-2 (Dao 2023), over the
// online softmax of Milakov and Gimelshein 2018; float32 throughout. Rows of O are scaled by a product with a diagonal
// matrix, so that nothing depends on which lane holds which element of a simdgroup matrix.
//
// Layout.
//   queries [B, KV · RATIO, L, DIM], keys and values [B, KV, S, DIM], any strides
//   sinks [KV · RATIO], any stride, minus infinity where there is none
//   mask [B, KV, RATIO, L, S], any strides, 0 where it broadcasts (MASK: 0 none, 1 causal, 2 boolean, 3 additive)
//   out [B, KV · RATIO, L, DIM]
//
// Thread mapping. Threadgroup (·, b · KV + h, block): 8 · SIMDGROUPS rows of one KV head. Row i is query i / RATIO of
// query head i mod RATIO, so that a tile of K and V serves all the heads that share it. A simdgroup has 8 rows; in the
// softmax four lanes share a row. Tiles are float32 in threadgroup memory, under 32 KiB in all.
//
// Bytes. K and V once a block: 2 · B · KV · S · DIM · sizeof(cache) · ⌈L · RATIO / (8 · SIMDGROUPS)⌉, about half of it
// when causal, for tiles that no row of the block may see are never loaded.
//
// Checked on a CPU only; it was not run on Metal.

constexpr int BLOCK = 8 * SIMDGROUPS;
constexpr int TILE = DIM > 128 ? 8 : 16;
constexpr int WIDTH = DIM + 4;  // a row of a tile, padded so that eight rows do not meet in the same banks
constexpr int FRAGMENTS = DIM / 8;
constexpr int COLUMNS = TILE / 4;  // keys of a lane in the softmax

threadgroup float query_tile[BLOCK * WIDTH], tile[TILE * WIDTH], scores[BLOCK * TILE], diagonals[SIMDGROUPS * 64];

const int kv_heads = keys_shape[1], keys_length = keys_shape[2], length = queries_shape[2];
const int pair = threadgroup_position_in_grid.y, batch = pair / kv_heads, head = pair % kv_heads;
const int thread_index = thread_position_in_threadgroup.x, lane = thread_index_in_simdgroup;
const int simd = simdgroup_index_in_threadgroup;
const int first_row = threadgroup_position_in_grid.z * BLOCK, rows = min(BLOCK, length * RATIO - first_row);
const int mine = lane / 4, quarter = lane % 4;  // the row and the part of it that a lane has in the softmax
const int row = first_row + simd * 8 + mine, at = row / RATIO, sharer = row % RATIO;
auto head_keys = keys + batch * keys_strides[0] + head * keys_strides[1];
auto head_values = values + batch * values_strides[0] + head * values_strides[1];
threadgroup float* my_queries = query_tile + simd * 8 * WIDTH;
threadgroup float* my_scores = scores + simd * 8 * TILE;
threadgroup float* diagonal = diagonals + simd * 64;

for (int i = thread_index; i < BLOCK * DIM; i += SIMDGROUPS * 32) {
  const int r = i / DIM, element = i % DIM, query = (first_row + r) / RATIO, which = (first_row + r) % RATIO;
  query_tile[r * WIDTH + element] =
      r < rows ? static_cast<float>(queries[batch * queries_strides[0] + (head * RATIO + which) * queries_strides[1] +
                                            query * queries_strides[2] + element * queries_strides[3]])
               : 0.0f;
}
for (int i = lane; i < 64; i += 32) diagonal[i] = 0.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);

float top = -INFINITY, total = 0.0f;
simdgroup_float8x8 sums[FRAGMENTS];
for (int f = 0; f < FRAGMENTS; f++) sums[f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

// A causal block needs the keys up to its last row's place.
const int seen = MASK == 1 ? keys_length - length + (first_row + rows - 1) / RATIO + 1 : keys_length;
for (int start = 0; start < seen; start += TILE) {
  for (int i = thread_index; i < TILE * DIM; i += SIMDGROUPS * 32) {
    const int r = i / DIM, element = i % DIM, key = start + r;
    auto from = head_keys + key * keys_strides[2] + element * keys_strides[3];
    tile[r * WIDTH + element] = key < keys_length ? static_cast<float>(*from) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  simdgroup_float8x8 left, right, product;
  for (int c = 0; c < TILE / 8; c++) {
    product = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (int f = 0; f < FRAGMENTS; f++) {
      simdgroup_load(left, my_queries + f * 8, WIDTH);
      simdgroup_load(right, tile + c * 8 * WIDTH + f * 8, WIDTH, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(product, left, right, product);
    }
    simdgroup_store(product, my_scores + c * 8, TILE);
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);

  float weights[COLUMNS], higher = top;
  for (int j = 0; j < COLUMNS; j++) {
    const int column = quarter * COLUMNS + j, key = start + column;
    weights[j] = -INFINITY;
    if (key < keys_length && row < length * RATIO && !(MASK == 1 && key > keys_length - length + at)) {
      weights[j] = my_scores[mine * TILE + column] * (scale * LOG2E);
      if (MASK >= 2) {
        const float value =
            static_cast<float>(mask[batch * mask_strides[0] + head * mask_strides[1] + sharer * mask_strides[2] +
                                    at * mask_strides[3] + key * mask_strides[4]]);
        weights[j] = MASK == 3 ? weights[j] + value * LOG2E : value == 0.0f ? -INFINITY : weights[j];
      }
    }
    higher = max(higher, weights[j]);
  }
  for (ushort step = 1; step < 4; step *= 2) higher = max(higher, simd_shuffle_xor(higher, step));
  const float reference = reference_of(higher), factor = weight_of(top, reference);
  float added = 0.0f;
  for (int j = 0; j < COLUMNS; j++) {
    weights[j] = weight_of(weights[j], reference);
    added += weights[j];
    my_scores[mine * TILE + quarter * COLUMNS + j] = weights[j];
  }
  for (ushort step = 1; step < 4; step *= 2) added += simd_shuffle_xor(added, step);
  total = total * factor + added;
  top = higher;
  if (quarter == 0) diagonal[mine * 9] = factor;
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the keys of the tile are done with, and the weights are there

  for (int i = thread_index; i < TILE * DIM; i += SIMDGROUPS * 32) {
    const int r = i / DIM, element = i % DIM, key = start + r;
    auto from = head_values + key * values_strides[2] + element * values_strides[3];
    tile[r * WIDTH + element] = key < keys_length ? static_cast<float>(*from) : 0.0f;
  }
  simdgroup_load(left, diagonal, 8);
  for (int f = 0; f < FRAGMENTS; f++) {
    simdgroup_multiply(product, left, sums[f]);
    sums[f] = product;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int c = 0; c < TILE / 8; c++) {
    simdgroup_load(left, my_scores + c * 8, TILE);
    for (int f = 0; f < FRAGMENTS; f++) {
      simdgroup_load(right, tile + c * 8 * WIDTH + f * 8, WIDTH);
      simdgroup_multiply_accumulate(sums[f], left, right, sums[f]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

const float sink = static_cast<float>(sinks[(head * RATIO + sharer) * sinks_strides[0]]) * LOG2E;
const float reference = reference_of(max(top, sink)), factor = weight_of(top, reference);
const float whole = total * factor + weight_of(sink, reference);
if (quarter == 0) diagonal[mine * 9] = whole == 0.0f ? 0.0f : factor / whole;
simdgroup_barrier(mem_flags::mem_threadgroup);

simdgroup_float8x8 left, product;
simdgroup_load(left, diagonal, 8);
for (int f = 0; f < FRAGMENTS; f++) {
  simdgroup_multiply(product, left, sums[f]);
  simdgroup_store(product, my_queries + f * 8, WIDTH);  // the queries are done with
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = thread_index; i < rows * DIM; i += SIMDGROUPS * 32) {
  const int r = i / DIM, element = i % DIM, query = (first_row + r) / RATIO, which = (first_row + r) % RATIO;
  const long place = ((long(batch) * kv_heads + head) * RATIO + which) * length + query;
  out[place * DIM + element] = static_cast<T>(query_tile[r * WIDTH + element]);
}
