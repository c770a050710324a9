"""Machines: start, snapshot, clone, look at and type into a desktop VM."""
