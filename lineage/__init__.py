"""One signed Merkle log of everything that happened to every item. Knows no HTTP."""
