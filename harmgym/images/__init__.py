"""Disk images of the desktop: recipe, build, verification."""
