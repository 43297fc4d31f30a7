"""Pure: what is asked, what the model is, and who does what at each step. Rules, not lists; no torch, no Ray."""
