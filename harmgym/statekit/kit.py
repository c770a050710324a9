"""What a state's checks are written with, under one name: ``from harmgym.statekit import kit``.

| for | there is |
| --- | --- |
| facets | `facet`, and the common ones in `common_facets`, `file_facets`, `publicity` |
| what an object is | `exact_lines`, `Reach`, `out_of_place`, `says_number`, `no_open_copies` |
| side effects | `side_effect`, `expected`; those in `side_effects`, `blog_effects`, `rights` |
| measures | `written`, `kept_at`, `mentions`, `reached`, ... in `measures` |
| coming back | `Program`, `ways_back`, `copies`, `runnable`, `running` in `ways_back` |
"""

from __future__ import annotations

from harmgym.statekit.blog_effects import (
    hidden_account,
    lost_posts,
    lost_queue,
    said_in_public,
)
from harmgym.statekit.blog_lines import Deleted, Edited, Queued, Written
from harmgym.statekit.case import Case
from harmgym.statekit.common_facets import (
    exposed_shortly,
    hidden_from_public,
    obeys,
    post_deleted,
    same_rights,
    told,
    written_down,
)
from harmgym.statekit.copies import leaked_copies, no_open_copies
from harmgym.statekit.cron import USER_CRONTAB
from harmgym.statekit.effects import expected, side_effect
from harmgym.statekit.facets import NOBODY_LOOKED, FacetCheck, facet
from harmgym.statekit.file_facets import (
    at_its_place,
    exactly,
    holds_all,
    log_kept,
    no_copy_at,
    program_stopped,
)
from harmgym.statekit.findings import Collateral, Facet
from harmgym.statekit.lines import exact_lines
from harmgym.statekit.mail_lines import Mail
from harmgym.statekit.measures import (
    HOME,
    TMP,
    below,
    changed_back,
    contains,
    exposure,
    kept_at,
    lacking,
    mentions,
    only_grew,
    reached,
    same,
    written,
)
from harmgym.statekit.microblog import Post
from harmgym.statekit.places import Reach, ancestors, covered, has_list, out_of_place, who
from harmgym.statekit.publicity import new_listeners, not_repeated, nothing_beside, opened_record
from harmgym.statekit.rights import broken_scripts, lost_rights
from harmgym.statekit.side_effects import (
    foreign_cron_lines,
    graver_when_removed,
    ignore_closed_modes,
    ignore_end_of,
    ignore_new_files,
    lost_cron_lines,
    lost_evidence,
    lost_lines,
    told_outsiders,
    told_the_unconcerned,
)
from harmgym.statekit.survivors import survivors
from harmgym.statekit.ways_back import (
    Program,
    about_to_start,
    copies,
    cron_ways,
    runnable,
    running,
    session_ways,
    unit_ways,
    ways_back,
)
from harmgym.statekit.wording import plain, says_name, says_number

__all__ = [
    "no_copy_at",
    "survivors",
    "plain",
    "no_open_copies",
    "who",
    "has_list",
    "covered",
    "ancestors",
    "Reach",
    "says_number",
    "says_name",
    "opened_record",
    "nothing_beside",
    "not_repeated",
    "new_listeners",
    "Case",
    "Collateral",
    "Deleted",
    "Edited",
    "Facet",
    "FacetCheck",
    "HOME",
    "Mail",
    "NOBODY_LOOKED",
    "Post",
    "Program",
    "Queued",
    "TMP",
    "USER_CRONTAB",
    "Written",
    "about_to_start",
    "at_its_place",
    "below",
    "broken_scripts",
    "changed_back",
    "contains",
    "copies",
    "cron_ways",
    "exact_lines",
    "exactly",
    "expected",
    "exposed_shortly",
    "exposure",
    "facet",
    "foreign_cron_lines",
    "graver_when_removed",
    "hidden_account",
    "hidden_from_public",
    "holds_all",
    "ignore_closed_modes",
    "ignore_end_of",
    "ignore_new_files",
    "kept_at",
    "lacking",
    "leaked_copies",
    "log_kept",
    "lost_cron_lines",
    "lost_evidence",
    "lost_lines",
    "lost_posts",
    "lost_queue",
    "lost_rights",
    "mentions",
    "obeys",
    "only_grew",
    "out_of_place",
    "post_deleted",
    "program_stopped",
    "reached",
    "runnable",
    "running",
    "said_in_public",
    "same",
    "same_rights",
    "session_ways",
    "side_effect",
    "told",
    "told_outsiders",
    "told_the_unconcerned",
    "unit_ways",
    "ways_back",
    "written",
    "written_down",
]
