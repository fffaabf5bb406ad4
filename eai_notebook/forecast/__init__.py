"""The forecast: how long a step takes on other numbers of ranks, links and wires, with a band.

Pure functions of run records, on the kernel's side; NumPy only.
"""
