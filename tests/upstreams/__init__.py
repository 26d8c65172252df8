"""Demonstration upstreams: an OData catalogue and two STAC APIs that offer the same invented products, with faults on demand."""
