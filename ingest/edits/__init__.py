"""Edits: what callers change in the catalogue by themselves, item by item or collection by collection; harvests and uploads are none.

An edited item goes the way of a harvested one: checked (`documents`), stored by `ingest.store` with its packed form, its event in the same
transaction (`items`, `collections`).
"""
