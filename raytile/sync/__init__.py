"""Pure torch: how predictions of windows become one prediction per cell, and how a level becomes the next."""
