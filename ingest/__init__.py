"""Harvest of upstream catalogues and of users' rasters into the catalogue. Serves no requests."""
