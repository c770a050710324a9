"""What people prefer: from a verdict to a reward, and from pairwise judgments to a model of
preference.
"""
