// A BASELINE to count bytes against, not in use: decode attention with one threadgroup to a query head.
//
// Formula. softmax(scale · q Kᵀ + mask) V by online softmax (Milakov and Gimelshein 2018), as in online_softmax.metal.
//
// Layout. queries [B, heads, L, DIM], keys and values [B, KV, S, DIM], any strides; out [B, heads, L, DIM].
//
// Thread mapping. One simdgroup, one threadgroup, for each (b, head, query): a lane has DIM / 32 elements of head_dim,
// rounded up; the keys follow one after the other. This is what everybody writes first.
//
// Bytes. The query heads that share a KV head each read it: RATIO · L times K and V. A cache may serve the rest, but
// nothing in the kernel sees to it.
//
// Checked on a CPU only; it was not run on Metal.

constexpr int ELEMENTS = (DIM + 31) / 32;

const int heads = queries_shape[1], length = queries_shape[2], kv_heads = keys_shape[1], keys_length = keys_shape[2];
const int row = threadgroup_position_in_grid.y, lane = thread_index_in_simdgroup;
const int batch = row / (heads * length), head = row / length % heads, at = row % length;
auto head_keys = keys + batch * keys_strides[0] + head / (heads / kv_heads) * keys_strides[1];
auto head_values = values + batch * values_strides[0] + head / (heads / kv_heads) * values_strides[1];
auto head_query = queries + batch * queries_strides[0] + head * queries_strides[1] + at * queries_strides[2];

float query[ELEMENTS], sum[ELEMENTS], top = -INFINITY, total = 0.0f;
for (int i = 0; i < ELEMENTS; i++) {
  const int element = i * 32 + lane;
  query[i] = element < DIM ? static_cast<float>(head_query[element * queries_strides[3]]) : 0.0f;
  sum[i] = 0.0f;
}
for (int key = 0; key < keys_length; key++) {
  float score = 0.0f;
  for (int i = 0; i < ELEMENTS; i++) {
    const int element = i * 32 + lane;
    if (element < DIM)
      score += query[i] * static_cast<float>(head_keys[key * keys_strides[2] + element * keys_strides[3]]);
  }
  score = simd_sum(score) * scale * LOG2E;
  const float higher = max(top, score);
  const float factor = weight_of(top, higher), weight = weight_of(score, higher);
  for (int i = 0; i < ELEMENTS; i++) {
    const int element = i * 32 + lane;
    if (element < DIM)
      sum[i] = sum[i] * factor +
               weight * static_cast<float>(head_values[key * values_strides[2] + element * values_strides[3]]);
  }
  total = total * factor + weight;
  top = higher;
}
for (int i = 0; i < ELEMENTS; i++) {
  const int element = i * 32 + lane;
  if (element < DIM) out[long(row) * DIM + element] = static_cast<T>(sum[i] / total);
}
