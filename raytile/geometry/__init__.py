"""Pure integers: boxes, axes, the tiling of a canvas, and how its sides are joined. No floats, no tensors."""
