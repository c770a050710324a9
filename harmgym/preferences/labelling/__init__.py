"""The labelling page: people read a scenario, compare two recoveries and say which one they would
want.

items (what is judged) -> desk (who gets what next) -> server (the page) -> export (judgments with
source "human"); store keeps every answer in one SQLite file.
"""
