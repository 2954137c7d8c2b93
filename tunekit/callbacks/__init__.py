"""Observers: they see what is in the journal, and can change nothing."""
