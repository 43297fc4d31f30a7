"""Diffusion modules: encode a prompt, predict, decode. The registry reads folders without loading weights."""
