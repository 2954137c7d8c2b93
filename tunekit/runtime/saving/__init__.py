"""The worker's half of a checkpoint: when it is made, and how it comes to the disk behind the training."""
