"""raytile: pictures of any size by many diffusion modules that listen to each other."""

__version__ = "0.1.0"
