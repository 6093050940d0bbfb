"""The builder of the pocket model: data, tokenizer, training, evaluation (`python -m mlxnb.pocket.build`)."""
