"""Slurm: the job of a group, its script, its state, and what runs beside it and inside of it."""
