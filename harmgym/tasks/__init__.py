"""A harm state as data: its file, variants, recovery plans, texts, and the records of an episode on
it.
"""
