// The end of both decode kernels: the workers' rows are joined, and each row's partial result leaves for combine.metal.
//
// Layout. sums [rows, splits, DIM], tops and totals [rows, splits], float32, where the rows of all KV heads follow each
// other. Thread mapping: as the kernel that it ends. With STAGED a simdgroup has rows of its own and leaves them; else
// all simdgroups have the same rows over different keys, put them on a board in threadgroup memory, and every thread
// joins some elements.
//
// Checked on a CPU only; it was not run on Metal.

for (int r = 0; r < ROWS; r++) join_workers<LANES, ELEMENTS>(top[r], total[r], sum[r]);

if (STAGED) {
  for (int r = 0; r < ROWS; r++) {
    const int row = first_row + r;
    const long at = (long(pair) * HEIGHT + row) * splits + split;
    if (row < HEIGHT && worker == 0 && active)
      for (int i = 0; i < ELEMENTS; i++) sums[at * DIM + first + i] = sum[r][i];
    if (row < HEIGHT && lane == 0) {
      tops[at] = top[r];
      totals[at] = total[r];
    }
  }
} else {
  for (int r = 0; r < ROWS; r++) {
    const int place = simd * ROWS + r;
    if (worker == 0 && active)
      for (int i = 0; i < ELEMENTS; i++) board[place * DIM + first + i] = sum[r][i];
    if (lane == 0) {
      board_tops[place] = top[r];
      board_totals[place] = total[r];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = thread_index; i < HEIGHT * DIM; i += SIMDGROUPS * 32) {
    const int row = i / DIM, element = i % DIM;
    const long at = (long(pair) * HEIGHT + row) * splits + split;
    float highest = -INFINITY, joined = 0.0f, joined_total = 0.0f;
    for (int s = 0; s < SIMDGROUPS; s++) highest = max(highest, board_tops[s * ROWS + row]);
    for (int s = 0; s < SIMDGROUPS; s++) {
      const float factor = weight_of(board_tops[s * ROWS + row], reference_of(highest));
      joined += factor * board[(s * ROWS + row) * DIM + element];
      joined_total += factor * board_totals[s * ROWS + row];
    }
    sums[at * DIM + element] = joined;
    if (element == 0) {
      tops[at] = highest;
      totals[at] = joined_total;
    }
  }
}
