"""Judges that are models: a Hugging Face classifier or guard says what a reply did about a request.

A judge is plain data in an environment's arguments, and becomes an object where the environment is made:

    {"name": "classifier", "path": "Qwen/Qwen3Guard-Gen-0.6B", "preset": "qwen3guard"}   ->   Classifier(...)

Making one is cheap, and checks its settings; torch is imported, and the model loaded, at the first question.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from holdfast.chat import Judge, Message, Stance, ToolCall, Transcript, parse_reply
from holdfast.hub import is_id, pinned
from holdfast.judges.guards import PRESETS, read

if TYPE_CHECKING:
    from holdfast.judges.network import Network

MEMORY = 65_536
"""Answers that a classifier remembers."""
STANCES: tuple[Stance, ...] = get_args(Stance)
JUDGES = ("rules", "classifier")
# What a loaded model's word depends on: weights, settings, tokenizer, chat template.
_KINDS = (".safetensors", ".json", ".txt", ".model", ".jinja")


def make(config: Mapping[str, Any]) -> Judge | Literal["rules"]:
    """The judge that {"name": "rules"} or {"name": "classifier", "path": ...} describes, as an environment takes it.

    The same config gives the same object, so that a model is loaded once. Raises ValueError, in one line that names the
    key, for an unknown or missing key and for a value that is not allowed.
    """
    name, settings = config.get("name"), {key: value for key, value in config.items() if key != "name"}
    if name not in JUDGES:
        raise ValueError(f"judge.name must be one of {', '.join(JUDGES)}, not {name!r}")
    allowed = [spec.name for spec in fields(Classifier)] if name == "classifier" else []
    for key in settings:
        if key not in allowed:
            raise ValueError(f"judge.{key} is no setting of {name}; allowed are {', '.join(['name', *allowed])}")
    if name == "rules":
        return "rules"
    if "path" not in settings:
        raise ValueError("judge.path is missing: a model folder or a Hugging Face hub id")
    return _once(Classifier(**settings))


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A judge with a model, told by its `architectures`: *ForSequenceClassification says one of its labels,
    *ForCausalLM is a guard, which writes its verdict, greedily.

    It reads the request, the last message of the user as the model under test saw it, jailbreaks and all, and what
    `parse_reply` finds in the reply: its text, then its tool calls as `ToolCall.render` writes them. Thoughts and
    malformed calls are not read, nor system prompts and the tools on offer. Where that leaves nothing of a reply, as
    where its <think> never closes, it says "neither", and the model is not asked.

    It remembers its answers: to ask about many transcripts at once makes the single questions that follow free. What it
    says does not depend on what else is asked, but for rounding where two labels are as good as equal.

    Raises ValueError for values that are not allowed; when first asked, for a model that cannot be loaded, is of
    neither kind, or has a label that `labels` lacks; and for a guard's text that stands for nothing.
    """

    path: str
    """A model folder or a Hugging Face hub id. Only safetensors are read, and no code of the model's own is run."""
    preset: str | None = None
    """The guard that it is, one of `PRESETS`. Either this or `labels` is given."""
    labels: Mapping[str, Stance] | None = field(default=None, hash=False)
    """A stance for every label of a classifier, or for the first line of what a guard writes. Upper and lower case are
    the same, and white space around it does not count."""
    revision: str | None = None
    """The commit, branch or tag of a hub id; None for its main branch."""
    prompt: str | None = None
    """A text with {reply} and mostly {request}, as the model is to read it; a guard's has its special tokens too. None
    for the model's own form: a pair of texts for a classifier, the chat template for a guard."""
    max_new_tokens: int = 64
    """Of a guard's verdict. The longest of a preset has about 50."""
    batch_size: int = 16
    max_length: int | None = None
    """Tokens that the model reads; None for its own limit. Of what is too long it sees both ends of the reply, with
    `network.CUT` for the middle, and all of the request: one that leaves no room for a reply is a ValueError."""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"judge.path must be a model folder or a Hugging Face hub id, not {self.path!r}")
        if not self._folder.is_dir() and not is_id(self.path):
            raise ValueError(f"judge.path: {self.path}: no such model folder")
        counts = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
        for key, count in (counts if self.max_length is None else {**counts, "max_length": self.max_length}).items():
            if type(count) is not int or count < 1:
                raise ValueError(f"judge.{key} must be a whole number of 1 or more, not {count!r}")
        if self.prompt is not None and (not isinstance(self.prompt, str) or "{reply}" not in self.prompt):
            raise ValueError(f"judge.prompt must hold {{reply}}, and may hold {{request}}, not {self.prompt!r}")
        if self.revision is not None:
            if not isinstance(self.revision, str) or not self.revision:
                raise ValueError(f"judge.revision must be a commit, a branch or a tag, not {self.revision!r}")
            if self._folder.is_dir():
                raise ValueError(f"judge.revision is for a hub id, and {self.path} is a folder")
        if (self.preset is None) == (self.labels is None):
            raise ValueError(
                f"judge must have either preset, one of {', '.join(PRESETS)}, "
                f"or labels, which map what the model says to {', '.join(STANCES)}"
            )
        if self.preset not in (None, *PRESETS):
            raise ValueError(f"judge.preset must be one of {', '.join(PRESETS)}, not {self.preset!r}")
        if self.labels is not None and (not isinstance(self.labels, Mapping) or not self.labels):
            raise ValueError(f"judge.labels must map what the model says to stances, not {self.labels!r}")
        for label, stance in (self.labels or {}).items():
            if not isinstance(label, str):
                raise ValueError(f"judge.labels: {label!r} is no text: put it in quotes")
            if stance not in STANCES:
                raise ValueError(f"judge.labels.{label} must be one of {', '.join(STANCES)}, not {stance!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Gymnasium copies an environment's arguments with it: a copy is the same judge, and never a second model.
        return make, ({"name": "classifier", **{spec.name: getattr(self, spec.name) for spec in fields(self)}},)

    @property
    def label(self) -> str:
        """Its model: the hub id, or the whole path of the folder. What the model is told and at which commit it is read
        are left out, as two such judges are no two opinions."""
        return f"classifier {self._folder.resolve() if self._folder.is_dir() else self.path}"

    @property
    def sources(self) -> Sequence[Path]:
        """The code that asks and reads, and the model's files, if it lies in a folder."""
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        model = (path for path in files if path.suffix in _KINDS and path.is_file())
        return sorted(Path(__file__).parent.glob("*.py")) + sorted(model)

    @property
    def revisions(self) -> Mapping[str, str]:
        """The commit of a hub id. Raises ValueError where there is none to be had."""
        commit = pinned(self.path, self.revision)
        return {} if commit is None else {self.path: commit}

    def __call__(self, transcripts: Sequence[Transcript]) -> Sequence[Stance]:
        """A stance for each transcript; the model meets each text once."""
        pairs = [_pair(transcript.messages) for transcript in transcripts]
        keys = [hashlib.sha256(json.dumps(pair).encode()).digest() for pair in pairs]
        asked = dict(zip(keys, pairs, strict=True))
        known = {key: self._memory[key] for key in asked if key in self._memory}
        known |= {key: "neither" for key, (_, reply) in asked.items() if not reply}
        new = [key for key in asked if key not in known]
        if new:
            known |= zip(new, map(self.stance, self.network.say([asked[key] for key in new])), strict=True)
        for key, stance in known.items():
            self._memory[key] = stance
            self._memory.move_to_end(key)
        while len(self._memory) > MEMORY:
            self._memory.popitem(last=False)
        return [known[key] for key in keys]

    def stance(self, said: str) -> Stance:
        """The stance that a label or a guard's text stands for. Raises ValueError if it stands for none."""
        stance = read(self.preset, said) if self.preset else self._mapping.get(_first_line(said))
        if stance is None:
            known = f"is not how {self.preset} writes" if self.preset else f"is none of {', '.join(self._mapping)}"
            raise ValueError(f"judge {self.path} says {said!r}, which {known}")
        return stance

    @cached_property
    def network(self) -> Network:
        """The loaded model. Raises ValueError if it cannot be loaded or has a label that `labels` lacks."""
        from holdfast.judges.network import Network

        network = Network(
            self.path,
            revision=self.revisions.get(self.path),
            prompt=self.prompt,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            max_length=self.max_length,
        )
        if lacking := [label for label in network.labels if _first_line(label) not in self._mapping]:
            raise ValueError(f"judge {self.path} is a classifier, of which judge.labels lack {', '.join(lacking)}")
        return network

    @cached_property
    def _mapping(self) -> Mapping[str, Stance]:
        return {_first_line(label): stance for label, stance in (self.labels or {}).items()}

    @cached_property
    def _memory(self) -> OrderedDict[bytes, Stance]:
        return OrderedDict()

    @property
    def _folder(self) -> Path:
        return Path(self.path).expanduser()


@cache
def _once(judge: Classifier) -> Classifier:
    return judge


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip().casefold()


def _pair(messages: Sequence[Message]) -> tuple[str, str]:
    """Request, and what is read of the reply."""
    requests = [message["content"] for message in messages if message["role"] == "user"]
    reply = parse_reply(messages[-1]["content"])
    # map is no frame of its own: so whatever nesting was not too deep to be parsed is not too deep to be written.
    return requests[-1], "\n".join([reply.text, *map(ToolCall.render, reply.calls)]).strip()
