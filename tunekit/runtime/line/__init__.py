"""What driver and workers say to each other, and the way that it takes."""
