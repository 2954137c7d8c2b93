"""What makes an experiment survive: its events and commands on disk, one driver at a time, and their replay."""
