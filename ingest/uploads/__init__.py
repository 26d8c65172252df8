"""Users' rasters: received, checked, made a COG, registered as an item. The state machine is in `model`."""
