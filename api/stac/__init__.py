"""`/stac`: stac-fastapi's routes and models over a search path of our own."""
