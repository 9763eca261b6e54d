"""The G2RPOJob: its fields, defaults, errors and the contract between operator and trainer."""
