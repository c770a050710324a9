"""Machines: the protocol that every kind keeps, its kinds, and the pool that lends them. Knows
neither tasks nor learners.
"""
