"""Finds out before a sweep whether a trainable can be saved and restored."""
