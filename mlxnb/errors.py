"""Every error that mlxnb raises on purpose, in one tree.

MlxnbError
├── OptionError                an option is unknown, out of range or of the wrong type
├── PromptError                the prompt cannot be used
│   ├── EmptyPromptError         there is none
│   ├── PromptTooLongError       it does not fit the model's context
│   ├── ConversationError        there is no such conversation, or a saved one is damaged
│   └── TemplateError            a `{{ }}` template or a chat template failed
├── ModelError                 the model cannot be used
│   ├── ModelNotFoundError       no model goes by that name
│   ├── NotAModelError           the folder is there, a model is not
│   ├── DamagedModelError        weights or configuration are broken
│   ├── TokenizerMissingError    weights without a tokenizer
│   ├── ModelTooLargeError       it would not fit into this machine's memory
│   ├── UnsupportedModelError    a backend does not know the architecture
│   ├── AdapterError             a LoRA adapter cannot be read, or is for another model
│   ├── ConversionError          writing it in another format failed
│   └── DownloadError            fetching it failed
├── BackendError               a backend cannot do its work
│   ├── BackendMissingError      it is not installed, or not for this machine
│   ├── ServerError              a server cannot be reached, or refuses what it is asked
│   ├── GenerationError          it failed while generating; `.partial` is the Result so far
│   └── EmptyAnswerError         the model ended its turn without a word
├── KernelError                a Metal kernel, or the attention of a model, cannot be used
│   ├── CompilerMissingError     the emulator found no C++ compiler
│   ├── KernelCompileError       the source does not compile; `.line` says where
│   ├── KernelFaultError         it did what no kernel may do; `.report` has the findings
│   └── PatchError               a model's attention cannot be replaced here
├── ReportError                a saved profile cannot be read, or one cannot be saved
└── EngineClosedError          the engine was closed

A message has three parts: what happened with the offending value, what was expected, and the next step (`remedy`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Result


class MlxnbError(Exception):
    """The root. `message` says what is wrong, `remedy` what to do next; `str()` joins the two."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class OptionError(MlxnbError, ValueError):
    """An option is unknown, out of range or of the wrong type."""


class PromptError(MlxnbError, ValueError):
    """The prompt cannot be used."""


class EmptyPromptError(PromptError):
    """There is no prompt."""


class PromptTooLongError(PromptError):
    """The prompt does not fit the model's context."""


class ConversationError(PromptError):
    """There is no such conversation, it cannot be changed so, or a saved one is damaged."""


class TemplateError(PromptError):
    """A `{{ }}` template in a prompt, or a model's chat template, failed."""


class ModelError(MlxnbError):
    """The model cannot be used."""


class ModelNotFoundError(ModelError, LookupError):
    """No model goes by that name."""


class NotAModelError(ModelError):
    """The folder exists, but what it holds is no model."""


class DamagedModelError(ModelError):
    """Weights or configuration are broken."""


class TokenizerMissingError(ModelError):
    """Weights are there, a tokenizer is not."""


class ModelTooLargeError(ModelError):
    """The model would not fit into this machine's memory."""


class UnsupportedModelError(ModelError):
    """A backend does not know the model's architecture."""


class AdapterError(ModelError):
    """A LoRA adapter cannot be read, or is for another model."""


class ConversionError(ModelError):
    """Writing the model in another format failed; nothing was left behind."""


class DownloadError(ModelError):
    """Fetching the model failed."""


class BackendError(MlxnbError):
    """A backend cannot do its work."""


class BackendMissingError(BackendError):
    """A backend is not installed, or not for this machine."""


class ServerError(BackendError):
    """A server cannot be reached, refuses what it is asked, or answers what nobody understands."""


class GenerationError(BackendError):
    """A backend failed while generating. `partial` is the Result with what had come by then, if anything had."""

    def __init__(self, message: str, remedy: str = "", partial: Result | None = None) -> None:
        super().__init__(message, remedy)
        self.partial = partial


class EmptyAnswerError(BackendError):
    """The model ended its turn without a word."""


class KernelError(MlxnbError):
    """A Metal kernel, or the attention of a model, cannot be used."""


class CompilerMissingError(KernelError):
    """The emulator found no C++ compiler."""


class KernelCompileError(KernelError):
    """A kernel's source does not compile. `line` is counted from 1 in the source as given; None where unknown."""

    def __init__(self, message: str, remedy: str = "", line: int | None = None) -> None:
        super().__init__(message, remedy)
        self.line = line


class KernelFaultError(KernelError):
    """A kernel did what no kernel may do: a wild access, a race, no end. `report` is the emulator's, if any."""

    def __init__(self, message: str, remedy: str = "", report: Any = None) -> None:
        super().__init__(message, remedy)
        self.report = report


class PatchError(KernelError):
    """A model's attention cannot be replaced here, or was replaced by someone else."""


class ReportError(MlxnbError):
    """A saved profile cannot be read, or one cannot be saved."""


class EngineClosedError(MlxnbError):
    """The engine was closed, so it takes no more work."""


def in_words(err: BaseException) -> str:
    """What another library raised, on one line: its kind and its text, cut where that is long."""
    return f"{type(err).__name__}: {' '.join(str(err).split())[:200]}"
