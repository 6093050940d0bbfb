"""The running engine: one thread that owns every model, one queue of requests, one Result for each."""

from .batch import BatchJob
from .engine import Engine, Status
from .job import Job
from .map_job import MapJob
from .shared import shared_engine

__all__ = ["BatchJob", "Engine", "Job", "MapJob", "Status", "shared_engine"]
