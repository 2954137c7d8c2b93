"""The shell around the core: journal, decide, act."""
