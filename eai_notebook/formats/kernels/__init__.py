"""Compiled helpers that several decoders share: SWAR, varints, JIT settings."""
