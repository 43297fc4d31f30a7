"""Bytes at rest: the zarr canvas, its head, and the pictures made from it. Nothing here imports torch."""
