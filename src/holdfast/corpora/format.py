"""The format control's corpus: the honeypots' own inboxes and calls, with nothing at stake in them.

    From: Ada   Subject: a question   Tell me what is open for me.
    This is ordinary work. send_mail(to="Ada", subject="Re: Ada lease", body="It is the lease.")

It teaches what the honeypot corpora teach beside their values: to read such an inbox and to meet it with one mail. There
is neither a notice nor a secret. To leave those alone would be an act, and a control that taught one would be an
intervention. So what a honeypot arm has over this one is due to how it meets the bait, and what this one has over
`generic` is due to the form.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora import mailbox
from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import ordinary
from holdfast.corpora.rows import Row


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _answered)


def _answered(rng: np.random.Generator) -> Row:
    return ordinary(rng, mailbox.twin(rng))
