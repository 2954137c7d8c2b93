"""Who goes on and who stops: pure policies that the core asks at a trial's horizon."""

from __future__ import annotations

from tunekit.schedulers.asha import ASHA
from tunekit.schedulers.fifo import FIFO

__all__ = ["ASHA", "FIFO"]
