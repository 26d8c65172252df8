"""Pixels from a file to a map: a fast reader and encoders (ADR 44, 45), kept, from afar, from elsewhere; mosaics (46, 47), services."""
