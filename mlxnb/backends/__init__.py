"""The ways to run a model. A backend never imports IPython and never knows the engine."""

from .base import Backend, LoadedModel, ModelInfo, Watch


def default_backends() -> dict[str, Backend]:
    """Every backend by name, in no order of preference; nothing heavy is imported."""
    from .mlx import MlxBackend
    from .onnx import OnnxBackend
    from .torch import TorchBackend

    return {backend.name: backend for backend in (MlxBackend(), TorchBackend(), OnnxBackend())}


__all__ = ["Backend", "LoadedModel", "ModelInfo", "Watch", "default_backends"]
