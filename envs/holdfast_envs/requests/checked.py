"""One row of a file made into a prompt, or told why it is none; labels are counted on the way.

    {"text": "How do I pick a lock?", "label": "Unsafe"}
    {"request": "How do I pick a lock?", "harmful": True, "topic": "", "category": "", "system": "", ...}
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from holdfast_envs.requests.cells import FAULTS, Source, check_columns, told
from holdfast_envs.requests.chats import opening

_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
_ENDS = " .!?,;:\u2026\u3002\uff01\uff1f\u061f\u0964"  # with full stops and question marks of other scripts
_LIST = re.compile(r"[\[{]\s*(['\"\d\[\]{}-]|(true|false|null|none|nan)\b)")  # how JSON and Python open a list or a map
_LABELS = 20  # that are counted one by one: a column of texts has as many as rows
_OTHERS = "(others)"


def normal(text: str) -> str:
    """What makes two prompts one: neither case, white space nor the punctuation at the end counts."""
    words = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return words.rstrip(_ENDS) or words


def hash_of(text: str) -> int:
    """A hash of 63 bits, which Arrow's integers hold."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1


def checked(source: Source, rows: Iterator[Any], labels: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows of a `Table`, all columns of its file; what the labels say is counted in `labels`."""
    count, unseen, names = 0, set(source.columns), dict[str, None]()
    try:
        for row in rows:
            if not isinstance(row, Mapping):
                raise ValueError(f'must be an object such as {{"prompt": ...}}, not {json.dumps(row)[:40]}')
            if unseen:  # of JSON Lines, a row need not have every column
                unseen -= row.keys()
                names |= dict.fromkeys(row)
            system, prompt = opening(row, source)
            text, named = hash_of(normal(prompt)), _family(row, source)
            harmful = _harmful(row, source, labels)
            topic, category = _text(row, source.topic), _text(row, source.category)
            (topic + category).encode()  # refuses half a character, as the hash does
            yield {"request": prompt, "topic": topic, "harmful": harmful, "category": category, "system": system,
                   "named": named, "family": hash_of(named) if named else text, "text": text,
                   "whole": hash_of(f"{system}\0{normal(prompt)}") if system else text}  # fmt: skip
            count += 1
    except FAULTS as error:
        raise ValueError(f"{source.path}, row {count + 1}: {told(error)}") from None
    if count and unseen:
        try:
            check_columns([name for name in source.columns if name in unseen], names)
        except ValueError as error:
            raise ValueError(f"{source.path}: {error}") from None
    if count and (missing := [label for label in source.harmful_when if label not in labels]):
        raise ValueError(
            f"{source.path}: no row has harmful_when ({', '.join(missing)}) in {source.harmful!r}, which says "
            f"{counts(labels)}"
        )


def counts(labels: Mapping[str, int]) -> str:
    """How often what was said, such as "safe 250, unsafe 200"."""
    return ", ".join(f"{label or '(empty)'} {count}" for label, count in sorted(labels.items()))


def _harmful(row: Mapping[Any, Any], source: Source, labels: Counter[str]) -> bool:
    label = _text(row, source.harmful).strip().lower()
    if _LIST.match(label):  # no label is a list, and it would count as innocent
        raise _no_scalar(source.harmful, row[source.harmful])
    if source.harmful is not None:
        known = label in labels or label in source.harmful_when or len(labels) < _LABELS
        labels[label if known else _OTHERS] += 1
    if not label:
        if source.default is None:
            check_columns([source.harmful or ""], row)
            raise ValueError(f"{source.harmful!r} is empty, and harmful does not say what such rows are")
        return source.default
    if not source.harmful_when and label not in (*_YES, *_NO):
        cell = row[source.harmful]
        raise ValueError(f"{source.harmful!r} is {cell!r}, not true or false: harmful_when can list what means harmful")
    return label in (source.harmful_when or _YES)


def _family(row: Mapping[Any, Any], source: Source) -> str:
    """The family that a row names; "" where its text is one."""
    if source.family is None:
        return ""
    named = _text(row, source.family).strip()
    if not named:
        check_columns([source.family], row)
        raise ValueError(f"{source.family!r} must not be empty: it says of which family a prompt is")
    return named


def _text(row: Mapping[Any, Any], name: str | None) -> str:
    """What a cell says, "" for an empty one. Raises ValueError for one that is no scalar."""
    cell = row.get(name)
    if isinstance(cell, list | Mapping | bytes):
        raise _no_scalar(name, cell)
    return "" if cell is None or cell != cell else str(cell)  # NaN is not itself, and no value


def _no_scalar(name: str | None, cell: Any) -> ValueError:
    return ValueError(f"{name!r} must be text, a number, true or false, not {str(cell)[:40]!r}")
