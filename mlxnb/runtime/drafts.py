"""Finds the draft model that a request names, on the backend of the model that it is for."""

from __future__ import annotations

import time
from dataclasses import replace

from ..backends.local import LocalModel
from ..backends.speculative import refuse
from ..errors import ModelTooLargeError, UnsupportedModelError
from ..request import LOOKUP
from .job import Job
from .loaded import Loaded, LoadedModels


def draft_for(models: LoadedModels, job: Job, loaded: Loaded) -> float:
    """Put the draft model of a job's request into its watch, loading it if need be; the seconds that took.

    One that does not fit in memory, or that the backend cannot run, is noted, and the answer is decoded plainly.

    Raises:
        ModelError: there is no such model, or its files cannot be used.
        OptionError: a strict request whose draft cannot be used.
    """
    request, began, before = job.request, time.perf_counter(), models.loads
    if request.draft is None:
        return 0.0
    if not isinstance(loaded.model, LocalModel):
        refuse(request, job.watch, f"the {loaded.info.backend} backend decodes by itself")
        return 0.0
    if request.draft == LOOKUP:
        return 0.0
    try:
        own = replace(request.precision, adapter=None)  # an adapter is the model's, not the draft's
        asked = (request.draft, loaded.info.backend, own, request.strict)
        found = models.get(*asked, job.loading, keep_alive=request.keep_alive)
    except (ModelTooLargeError, UnsupportedModelError) as err:
        refuse(request, job.watch, err.message.rstrip("."))
        return 0.0
    if isinstance(found.model, LocalModel):
        job.watch.draft = found.model
        job.watch.notes += [f"draft {request.draft}: {note}" for note in found.info.notes]
    return 0.0 if models.loads == before else time.perf_counter() - began
