"""The place where code written for mlx-lm looks for `models.cache`."""
