"""What is alive, compared with the snapshot: services, programs, mounts, network, clock, kernel,
files in memory.
"""
