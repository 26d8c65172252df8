"""Pixels: from a file to an image by a fast reader and encoders in titiler's seams (ADR 44, 45), kept, from afar, from elsewhere."""
