"""What lives inside each rank: start-up, the guard of the ring, telemetry out.

Rank side. The session sends `warm_up` once, before any cell.
"""
