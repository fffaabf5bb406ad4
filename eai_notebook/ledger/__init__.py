"""The ledger: how each step's time is accounted for; records, merge, verdict.

Pure Python and NumPy: both the kernel and the ranks import it.
"""
