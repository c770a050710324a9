"""Machines on QEMU: hardware, process, restore, screen, and the machine that joins them."""
