"""Workers as Ray actors. The only part of the engine that imports Ray."""
