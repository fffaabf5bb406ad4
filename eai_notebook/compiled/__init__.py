"""Compiled building blocks that several rooms share: SWAR, varints, Numba settings."""
