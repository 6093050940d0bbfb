"""mlx-lm's calls answered by the torch backend. Models live on the engine's thread, which every call goes through."""
