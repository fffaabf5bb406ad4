"""Inside each rank: start-up, cell guard, telemetry, answers to the kernel.

Rank side. The session sends `warm_up` once, before any cell.
"""
