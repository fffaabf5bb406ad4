"""Generated data sets with a known best possible score, to learn and to measure on."""
