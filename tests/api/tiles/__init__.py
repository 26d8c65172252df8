"""Pixels: reader, tables, encoders, against rio-tiler and titiler."""
