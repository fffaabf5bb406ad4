"""Kubernetes: the job of a group, its manifests, its state, and the programs beside it and in its pods."""
