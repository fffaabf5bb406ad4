"""Groups of ranks: launchers, start and end, registry, checks of hosts.

Kernel side. `launcher` is the interface of launchers, `launcher_registry` finds them, `group_start`
starts a group by any of them.
"""
