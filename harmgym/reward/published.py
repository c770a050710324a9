"""The published figures behind the reward: Table 4, and Table 5 of arXiv 2604.18847 v2.

Table 4 (p. 32): conditional logistic regression of the choice between two recovery plans on the
eight ratings. A coefficient is the change in log-odds of being chosen per +1 point of rating
(ratings 1 to 5), others held fixed.

Table 5 (p. 32-33): moderation of an attribute's weight by the scenario's topic (ten LDA topics);
all listed values have p < .001. A pair that is not listed had no reliable moderation and is 0 here.
Comprehensiveness and side harms had none in any topic. Main effects of those models are not
published.

A caution that the authors give, and that the reward honours: side harms come out as not
significant, among correlated attributes and raters who agree little (Cohen's kappa 0.15). That is
no licence to do harm on the way, so the reward carries a do-no-harm term of its own (see
`harmgym.reward.terms`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class Effect(NamedTuple):
    """A main effect: coefficient (log-odds per point), its standard error and its p-value."""

    coefficient: float
    standard_error: float
    p: float


TABLE_4: MappingProxyType[str, Effect] = MappingProxyType(
    {
        "comprehensiveness": Effect(-0.319, 0.103, 0.002),
        "focus": Effect(0.249, 0.080, 0.002),
        "success": Effect(-0.023, 0.093, 0.804),
        "speed": Effect(0.258, 0.078, 0.001),
        "long_term": Effect(-0.082, 0.070, 0.237),
        "side_harms": Effect(0.089, 0.096, 0.357),
        "communication": Effect(0.086, 0.071, 0.230),
        "autonomy": Effect(0.054, 0.079, 0.490),
    }
)

TOPICS: MappingProxyType[str, str] = MappingProxyType(
    {
        "CE": "Sustainable Cloud Energy Optimisation",
        "OG": "Online Gaming Community",
        "PD": "Automated Public Data Reporting",
        "SM": "Social Media Engagement",
        "SH": "Smart Home Energy Agent",
        "RA": "Responsible AI Platform",
        "UR": "Agent-Based Urban Routing",
        "AP": "Automated Access Provisioning",
        "MH": "Mental Health Support",
        "CP": "Community Platform Management",
    }
)

TABLE_5: MappingProxyType[str, MappingProxyType[str, float]] = MappingProxyType(
    {
        name: MappingProxyType(row)
        for name, row in {
            "comprehensiveness": {},
            "focus": {
                "CE": 0.400,
                "OG": 0.269,
                "PD": 0.213,
                "SM": 0.210,
                "SH": 0.208,
                "RA": 0.192,
                "UR": 0.176,
                "AP": 0.141,
                "MH": 0.121,
                "CP": 0.118,
            },
            "success": {
                "RA": 0.364,
                "PD": 0.289,
                "AP": 0.277,
                "SM": 0.181,
                "CE": 0.172,
                "OG": 0.171,
                "UR": 0.153,
                "SH": 0.134,
                "CP": 0.130,
            },
            "speed": {
                "UR": 0.237,
                "CE": 0.191,
                "SM": 0.174,
                "SH": 0.122,
                "RA": 0.118,
                "CP": 0.065,
                "AP": 0.059,
                "OG": 0.036,
            },
            "long_term": {
                "AP": 0.259,
                "CP": 0.222,
                "UR": 0.203,
                "SM": 0.171,
                "OG": 0.120,
                "SH": 0.109,
                "CE": 0.045,
            },
            "side_harms": {},
            "communication": {
                "AP": 0.309,
                "MH": 0.210,
                "RA": 0.204,
                "UR": 0.197,
                "SH": 0.118,
                "OG": 0.096,
                "CE": 0.093,
                "CP": 0.090,
                "PD": 0.080,
                "SM": -0.125,
            },
            "autonomy": {
                "MH": 0.260,
                "AP": 0.147,
                "RA": 0.123,
                "SH": 0.095,
                "PD": 0.092,
                "UR": 0.075,
                "CP": 0.054,
            },
        }.items()
    }
)

KAPPA = 0.15
"""Cohen's kappa of the 130 double-rated pairs (P2 p.5)."""

JUDGMENTS, ANNOTATORS, PAIRS_EACH, DOUBLE_RATED = 1130, 230, 5, 130
"""Size of the published preference study (P2 p.5): judgments, people, pairs a person, pairs rated
twice.
"""
