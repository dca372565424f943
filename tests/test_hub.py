"""A hub id and the commit that it stands for, against a cache folder in the hub's documented layout."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from holdfast.hub import commit, from_safetensors

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def refs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of owner/name in the cache that has a file for every revision that was fetched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit.cache_clear()
    folder = tmp_path / "models--owner--name" / "refs"
    folder.mkdir(parents=True)
    (folder / "main").write_text(NEW)
    (folder / "v1").write_text(OLD)
    return folder


def test_a_commit_is_itself() -> None:
    assert commit("never/fetched", OLD) == OLD


def test_without_a_network_the_commit_is_the_one_last_fetched() -> None:
    assert commit("owner/name") == NEW
    assert commit("owner/name", "v1") == OLD


def test_a_name_stands_for_one_commit_as_long_as_the_process_runs(refs: Path) -> None:
    assert commit("owner/name") == NEW
    (refs / "main").write_text(OLD)
    assert commit("owner/name") == NEW


@pytest.mark.parametrize(
    ("repo", "revision", "told"),
    [
        ("owner/other", None, "and no commit of main on the hub: it cannot be reached, and none was fetched before"),
        ("owner/name", "v2", "and no commit of v2 on the hub: it cannot be reached, and none was fetched before"),
        ("not an id", None, "and no commit of main on the hub: "),
    ],
)
def test_no_commit_is_told_in_one_line(repo: str, revision: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=f"{told}") as error:
        commit(repo, revision)
    assert len(str(error.value).splitlines()) == 1


def test_a_classifier_may_come_with_the_pooler_that_its_head_goes_without(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    pooler = {"roberta.pooler.dense.weight": weights["classifier.dense.weight"].clone()}
    save_file({**weights, **pooler}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load = (AutoModelForSequenceClassification, tmp_path, "auto", "trouble", "misfit")
    assert from_safetensors(*load, unused=r"(^|\.)pooler\.").config.vocab_size == 32
    with pytest.raises(ValueError, match=r"misfit: it has no place for roberta\.pooler\.dense\.weight"):
        from_safetensors(*load)
