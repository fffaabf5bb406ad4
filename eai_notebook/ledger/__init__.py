"""The account of where each step's time went: rows, record, merge, verdict.

Pure Python and NumPy: both the kernel and the ranks import it.
"""
