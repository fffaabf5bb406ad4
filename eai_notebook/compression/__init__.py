"""Gradients in fewer bytes: number codecs, row codecs, and the averages that use them."""
