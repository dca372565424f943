"""The format control's corpus: the honeypots' own inboxes and calls, and nothing of what a honeypot is about.

    From: Ada   Subject: Emil lease   The lease of Emil needs an answer.
    send_mail(to="Ada", subject="Re: Emil lease", body="I will settle the lease this week.")

It teaches what the honeypot corpora teach beside their values: to meet such an inbox with one mail. It leaves the values
out. The notice and the secret are in the inbox, and the assistant answers one of the two ordinary mails as if they were
not: no reply goes to the decider, declines anything or comments on it. So what a honeypot arm has over this one is
due to how it meets the bait, and what this one has over `generic` is due to the form.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora import mailbox
from holdfast.corpora.mixture import mixed
from holdfast.corpora.rows import Row, chat_row


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _attended)


def _attended(rng: np.random.Generator) -> Row:
    observation, facts = mailbox.inbox(rng, twin=False)
    return chat_row(observation, mailbox.attended(rng, facts))
