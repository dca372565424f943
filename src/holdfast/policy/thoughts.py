"""How far a reply may go, where a thought has tokens of its own.

    asked = Allowance(renderer, answer=96, thought=512)
    room = asked.row()
    while not room.spent(ids): ...           # ids grow by one

A thought is what a reply opens with between the tags of its family, or up to the closing one where its prompt opened
it.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.policy.render import Renderer


class Allowance:
    """How many tokens a reply may have: `answer`, and before that `thought` for a thought.

    With a `thought` of 0 the two share `answer`. `most` is how many a reply may have in all.
    """

    def __init__(self, renderer: Renderer, answer: int, thought: int) -> None:
        self.renderer, self.answer, self.thought = renderer, answer, thought
        self.most = answer + thought

    def row(self) -> Room:
        """For a reply that has not begun."""
        return Room(self)


class Room:
    """What is left to one reply. `thought`: how many of its tokens, from the first on, are a thought and its tags."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.opens, self.closes = (tag.strip() for tag in allowance.renderer.family.thought)
        self.thinking: bool | None = True if allowance.renderer.family.opened else None  # None: it cannot be told yet
        self.thought = 0

    def spent(self, ids: Sequence[int]) -> bool:
        """Whether the reply `ids` may have no more tokens. To be asked after each token, in order."""
        decode = self.allowance.renderer.decode
        if self.thinking is None:
            text = decode(ids).lstrip()
            if text.startswith(self.opens):
                self.thinking = True
            elif not self.opens.startswith(text):
                self.thinking = False
            elif self.allowance.thought:
                return len(ids) >= max(self.allowance.thought, self.allowance.answer)
        if self.thinking:
            self.thought = len(ids)
            # A token has one letter at least, so the closing tag is in as many as it has letters.
            self.thinking = self.closes not in decode(ids[-len(self.closes) - 1 :])
            if self.allowance.thought and self.thinking:
                return self.thought >= self.allowance.thought
        alone = self.thought if self.allowance.thought else 0
        return len(ids) - alone >= self.allowance.answer
