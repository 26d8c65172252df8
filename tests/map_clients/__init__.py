"""A page with a map as people build one, and the packages that it uses."""
