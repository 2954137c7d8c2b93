"""Machines that are taken away: who says so, and what is done in the time that is left."""
