"""Rendering a plan: what happens next (`state`), making it happen (`driver`, pools), a worker's part (`tile_group`)."""
