"""Measurements against the peers, in the same run on the same machine: `make bench`."""
