"""One life of one trial in a worker's process: user code, and all that is around it."""
