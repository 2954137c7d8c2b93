"""The kit that tunekit tests itself with, for people who write a scheduler, a searcher or a store."""
