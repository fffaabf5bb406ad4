"""Launchers: how ranks are started on this machine and on other hosts."""
