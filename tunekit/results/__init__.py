"""What came out of a sweep: a ``Result`` per trial, and a ``ResultGrid`` that answers questions about all of them."""

from __future__ import annotations

from tunekit.results.grid import ResultGrid
from tunekit.results.ledger import Cost, Ledger, Seconds
from tunekit.results.result import Result

__all__ = ["Cost", "Ledger", "Result", "ResultGrid", "Seconds"]
