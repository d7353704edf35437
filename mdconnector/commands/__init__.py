"""The subcommands, a module each: read the configuration, take stock, act, return the result.

Rules: reading comes before writing, and all NAMEs are checked before anything is done. What writes
holds the run lock and begins by finishing what a killed run has begun. A module imports what its
own subcommand needs, and what talks to a CA only where something is due.
"""
