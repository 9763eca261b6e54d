"""The commands, one module for each few that belong together."""
