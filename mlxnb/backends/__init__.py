"""The ways to run a model. A backend never imports IPython and never knows the engine."""

from .base import Backend, LoadedModel, ModelInfo, Watch


def default_backends() -> dict[str, Backend]:
    """Every backend by name, in no order of preference; nothing heavy is imported."""
    from .llamacpp import LlamaCppBackend
    from .mlx import MlxBackend
    from .server import ServerBackend
    from .torch import TorchBackend

    made = (MlxBackend(), ServerBackend(), LlamaCppBackend(), TorchBackend())
    return {backend.name: backend for backend in made}


__all__ = ["Backend", "LoadedModel", "ModelInfo", "Watch", "default_backends"]
