"""Care for experiments that nobody is running: copying them, checking them, clearing up after them.

Nothing here runs, imports or unpickles what users wrote.
"""

from __future__ import annotations
