"""The field's own programs against raytile. `record_*.py` run what is in no wheel and keep the figures it gave
(`recorded/*.npz`); the tests compare raytile's functions with those, relative to the largest value."""
