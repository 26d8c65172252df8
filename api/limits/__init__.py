"""How much a caller may ask for: tiers, counters that all processes share, and downloads that are paced."""
