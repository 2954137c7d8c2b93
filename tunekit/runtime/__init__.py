"""The shell: the only place that knows Ray, processes, threads and clocks."""

from __future__ import annotations

import os

from tunekit.collector import wake

# Here and not beside it, for what only describes a sweep is pure, and knows no processes.
os.register_at_fork(after_in_child=wake)
