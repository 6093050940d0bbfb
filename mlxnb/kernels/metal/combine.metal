// Joins the partial results that the decode kernels left for every split of the keys, and adds the attention sink.
//
// Formula. With the partial results (top_j, total_j, sums_j) of splits j and the sink's logit k, in units of log2,
//     top = max(max_j top_j, k),  out = Σ_j 2^(top_j − top) sums_j / (Σ_j 2^(top_j − top) total_j + 2^(k − top)),
// and 0 for a query that saw nothing. Flash-Decoding (Dao et al. 2023); a sink is a logit without a value
// (G. Xiao et al., "Efficient streaming language models with attention sinks", 2023).
//
// Layout. sums [B, heads, L, splits, head_dim], tops and totals [B, heads, L, splits] float32, contiguous;
// sinks [heads], any stride, minus infinity where there is none; out [B, heads, L, head_dim].
//
// Thread mapping. Threadgroup (·, row): head_dim threads, one an element, each going through the splits; a split's
// elements lie side by side.
//
// Bytes. 4 · (head_dim + 2) a row and split read, head_dim · sizeof(T) a row written. Tops and totals are read by
// every thread (a broadcast from cache).
//
// Checked on a CPU only; it was not run on Metal.

const int row = threadgroup_position_in_grid.y, element = thread_position_in_threadgroup.x;
const int heads = sums_shape[1], length = sums_shape[2], splits = sums_shape[3], head_dim = sums_shape[4];
const long at = long(row) * splits;

const float sink = static_cast<float>(sinks[row / length % heads * sinks_strides[0]]) * LOG2E;
float top = sink;
for (int s = 0; s < splits; s++) top = max(top, tops[at + s]);
const float reference = reference_of(top);
float total = weight_of(sink, reference), joined = 0.0f;
for (int s = 0; s < splits; s++) {
  const float factor = weight_of(tops[at + s], reference);
  total += factor * totals[at + s];
  joined += factor * sums[(at + s) * head_dim + element];
}
out[long(row) * head_dim + element] = static_cast<T>(total == 0.0f ? 0.0f : joined / total);
