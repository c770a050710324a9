"""Ways to be called safe without having made anything safe, as data: every harm state must stand
them. ``library`` reads them.
"""
