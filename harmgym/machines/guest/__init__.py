"""The channel to the daemon in the guest. The guest is hostile: every answer is bounded and
checked.
"""
