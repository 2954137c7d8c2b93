"""Search spaces: what a configuration can be, how it is drawn by chance, recorded, and made again."""

from __future__ import annotations

from tunekit.space.constructors import (
    choice,
    grid_search,
    lograndint,
    loguniform,
    qlograndint,
    qloguniform,
    qrandint,
    qrandn,
    quniform,
    randint,
    randn,
    sample_from,
    uniform,
)
from tunekit.space.domains import Choice, Domain, Drawn, Float, GridSearch, Integer, Normal, Numeric, SampleFrom
from tunekit.space.space import Space

__all__ = [
    "Choice",
    "Domain",
    "Drawn",
    "Float",
    "GridSearch",
    "Integer",
    "Normal",
    "Numeric",
    "SampleFrom",
    "Space",
    "choice",
    "grid_search",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "sample_from",
    "uniform",
]
