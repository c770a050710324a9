"""Snapshots of settled machines: what one is, how it is built, kept small, and restored from."""
