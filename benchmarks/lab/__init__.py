"""What the benchmarks share: data sets, training runs with their ground truth, and bar lines."""
