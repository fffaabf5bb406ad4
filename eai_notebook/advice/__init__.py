"""Advice: remedies for the losses of a run, each with the gain that a model of the step expects.

Pure Python and NumPy, on the kernel's side; a run record is all that it needs.
"""
