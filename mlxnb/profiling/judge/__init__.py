"""What figures mean: statistics, roofline, rules that find what limits a model, and what to do about it."""
