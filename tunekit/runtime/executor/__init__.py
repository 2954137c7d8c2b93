"""Attempts on Ray: which worker runs which, and what becomes of those whose worker is gone."""
