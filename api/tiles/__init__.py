"""How pixels come from a file to an image: a fast reader and fast encoders, plugged into titiler's seams (docs/adr/0044, 0045)."""
