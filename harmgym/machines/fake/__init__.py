"""A machine in memory, for wiring and for tests of everything that is not a machine."""
