"""Pixels: from a file to an image by a fast reader and encoders in titiler's seams (docs/adr/0044, 0045), kept, from elsewhere, from afar."""
