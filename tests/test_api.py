"""The public names, pinned: removing or renaming one is a decision, not an accident."""

import importlib

import pytest

PUBLIC = {
    "mlxnb": "Chunk Message Provenance Request Result Sampling Speculation Timings chat convert engine errors "
    "panel patched_kernels profile",
    "mlxnb.backends": "Backend LoadedModel ModelInfo Watch default_backends",
    "mlxnb.kernels": "AttentionConfig Patch Thresholds active configure_optimizer patch_mlx_lm should_optimize "
    "unpatch_mlx_lm",
    "mlxnb.lm": "batch_generate convert engine_in_use generate load load_cached stream_generate",
    "mlxnb.models": "Checkpoint ModelSource check_fits find_models fits inspect kv_bytes_per_token resolve",
    "mlxnb.profiling": "Limits Plan Report Summary profile",
    "mlxnb.render": "LiveCell Table clean describe footer_text mimebundle one_line to_html",
    "mlxnb.runtime": "BatchJob Engine Job MapJob Status shared_engine",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name].split()
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_engine_stays_callable_after_everything_is_imported():
    import mlxnb
    import mlxnb.magics
    import mlxnb.runtime

    assert callable(mlxnb.engine)


def test_every_error_is_in_the_drawn_tree():
    from mlxnb import errors

    tree = errors.__doc__
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.MlxnbError):
            assert name in tree
            assert value.__doc__
