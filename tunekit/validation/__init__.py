"""Finds out before a sweep whether a trainable can be saved and restored."""

from __future__ import annotations

from tunekit.validation.validate import validate_save_restore

__all__ = ["validate_save_restore"]
