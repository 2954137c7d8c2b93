"""Searchers: which configurations are tried."""

from __future__ import annotations

from tunekit.search.base import Searcher, SearcherState
from tunekit.search.random import RandomSearch

__all__ = ["RandomSearch", "Searcher", "SearcherState"]
