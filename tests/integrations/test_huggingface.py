"""`defend` on pipelines of transformers, whose models are small, random and made here."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs pip install transformers")
pytest.importorskip("tokenizers")
pytest.importorskip("PIL")

from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

import mipoison as mp
from mipoison.defenses import Rounding
from mipoison.integrations.huggingface import defend

TOLD = ("the", "a", "is", "it", "very", "not", "good", "bad", "film", "book", "play", "one")
WORDS = ["[PAD]", "[UNK]", *TOLD]
NAMES = {i: name for i, name in enumerate(("anger", "joy", "fear", "calm", "awe"))}
LABELS: dict[str, Any] = {
    "num_labels": 5,
    "id2label": NAMES,
    "label2id": {name: i for i, name in NAMES.items()},
}
TEXTS = ["the film is very good", "a bad play", "it is not one book"]
IMAGES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8))
    for i in range(3)
]


def text_pipeline(config: dict[str, Any] | None = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 1.0}
    model = BertForSequenceClassification(
        BertConfig(**shape, **(LABELS if config is None else config))
    )
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    )
    return pipeline("text-classification", model=model.eval(), tokenizer=tokenizer, **settings)


def image_pipeline(**settings: Any) -> Any:
    torch.manual_seed(0)
    shape = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 1.0}
    model = ViTForImageClassification(ViTConfig(**shape, **LABELS))
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    return pipeline(
        "image-classification", model=model.eval(), image_processor=processor, **settings
    )


MADE = {"text": (text_pipeline, TEXTS), "image": (image_pipeline, IMAGES)}
BOTH = pytest.mark.parametrize("kind", MADE)


@pytest.fixture(scope="module")
def defense() -> mp.LPA:
    outputs = torch.softmax(torch.randn(200, 5, generator=torch.Generator().manual_seed(1)), 1)
    return mp.LPA.fit(outputs, torch.arange(200.0), objective="decoy", epsilon=0.2, key=0)


def rows_of(answers: list[list[dict[str, Any]]], dtype: Any = np.float32) -> Any:
    """The scores in the order of the classes."""
    scores = [{part["label"]: part["score"] for part in answer} for answer in answers]
    return np.array([[answer[name] for name in NAMES.values()] for answer in scores], dtype)


@BOTH
def test_scores_are_the_defenses_answers(kind: str, defense: mp.LPA) -> None:
    make, asked = MADE[kind]
    plain = make()
    answers = defend(plain, defense)(asked)
    undefended = plain(asked, top_k=5)
    p, q = rows_of(undefended), rows_of(answers)
    np.testing.assert_allclose(q, defense(p), rtol=0, atol=1e-6)
    assert (np.abs(q - p).sum(1) > 0.05).all()
    for answer, before in zip(answers, undefended, strict=True):
        scores = [part["score"] for part in answer]
        assert scores == sorted(scores, reverse=True) and answer[0]["label"] == before[0]["label"]
        assert [*answer[0]] == ["label", "score"] and type(scores[0]) is float


@BOTH
def test_forms_are_those_of_the_pipeline(kind: str, defense: mp.LPA) -> None:
    """One input, a list, a generator and a batch, as a pipeline with top_k=None answers them."""
    make, asked = MADE[kind]
    settings = {"top_k": None} if kind == "text" else {}
    plain, served = make(**settings), defend(make(), defense)

    def form(answer: Any) -> Any:
        if isinstance(answer, list):
            return [form(part) for part in answer]
        return sorted(answer)

    for call in (
        lambda pipe: pipe(asked[0]),
        lambda pipe: pipe(asked[0], top_k=2),
        lambda pipe: pipe(asked),
        lambda pipe: pipe(asked, batch_size=2),
        lambda pipe: list(pipe(one for one in asked)),
    ):
        assert form(call(served)) == form(call(plain))
    assert rows_of(served(asked)).tolist() == rows_of(list(served(one for one in asked))).tolist()
    assert served.task == plain.task and type(served) is type(plain)


@BOTH
def test_pipeline_itself_stays_as_it_was(kind: str, defense: mp.LPA) -> None:
    make, asked = MADE[kind]
    plain = make()
    before = plain(asked)
    defend(plain, defense, decimals=3, top_k=2)(asked)
    assert plain(asked) == before


@BOTH
def test_decimals_sum_to_one(kind: str, defense: mp.LPA) -> None:
    make, asked = MADE[kind]
    for answer in defend(make(), defense, decimals=3)(asked):
        texts = [repr(part["score"]) for part in answer]
        assert max(len(text) for text in texts) <= len("0.123")
        assert sum(round(1000 * float(text)) for text in texts) == 1000


@BOTH
def test_top_k(kind: str, defense: mp.LPA) -> None:
    make, asked = MADE[kind]
    every = defend(make(), defense)(asked)
    two = defend(make(), defense, top_k=2)
    assert two(asked) == [answer[:2] for answer in every]
    assert two(asked, top_k=3) == [answer[:3] for answer in every]
    with pytest.raises(ValueError, match="expected top_k of at most K=5 classes, got 6"):
        two(asked, top_k=6)
    with pytest.raises(ValueError, match="expected top_k"):
        two(asked, top_k=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_16_bits(dtype: torch.dtype, defense: mp.LPA) -> None:
    plain = text_pipeline()
    plain.model.to(dtype)
    p, q = rows_of(plain(TEXTS, top_k=None)), rows_of(defend(plain, defense)(TEXTS))
    np.testing.assert_allclose(q, defense(p), rtol=0, atol=1e-6)


def test_deferred_defense_is_pickled_with_the_pipeline(
    defense: mp.LPA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "00112233445566778899aabbccddeeff"
    monkeypatch.setenv("KEY_OF_THE_PIPELINE_TESTS", secret)
    keyed = defense.with_key(bytes.fromhex(secret))
    keyed.save(tmp_path / "lpa.safetensors")
    deferred = mp.Deferred(tmp_path / "lpa.safetensors", key_env="KEY_OF_THE_PIPELINE_TESTS")
    served = defend(text_pipeline(), deferred)
    assert served(TEXTS) == defend(text_pipeline(), keyed)(TEXTS)
    assert pickle.loads(pickle.dumps(served))(TEXTS) == served(TEXTS)
    assert copy.copy(served)(TEXTS) == served(TEXTS)


# What is refused.


@BOTH
@pytest.mark.parametrize("function", ["sigmoid", "none"])
def test_scores_of_another_function_are_refused(kind: str, function: str, defense: mp.LPA) -> None:
    make, asked = MADE[kind]
    for call in (
        lambda: defend(make(), defense)(asked, function_to_apply=function),
        lambda: defend(make(function_to_apply=function), defense)(asked),
    ):
        with pytest.raises(ValueError, match=f"function_to_apply.*'softmax'.*{function}"):
            call()
    told = defend(make(function_to_apply="softmax"), defense)(asked)
    assert told == defend(make(), defense)(asked)


def test_wrong_settings_are_refused(defense: mp.LPA) -> None:
    plain = text_pipeline()
    with pytest.raises(TypeError, match="expected defense to be a mipoison Defense, got str"):
        defend(plain, "lpa")
    with pytest.raises(ValueError, match="expected top_k of at most K=5 classes, got 6"):
        defend(plain, defense, top_k=6)
    with pytest.raises(ValueError, match="decimals"):
        defend(plain, defense, decimals=0)
    with pytest.raises(ValueError, match="problem_type='multi_label_classification'"):
        defend(text_pipeline(LABELS | {"problem_type": "multi_label_classification"}), defense)
    with pytest.raises(ValueError, match="got 1 labels"):
        defend(text_pipeline({"num_labels": 1}), defense)
    plain.task = "token-classification"
    with pytest.raises(ValueError, match=r"expected pipeline.task .*token-classification"):
        defend(plain, defense)


def test_defense_of_other_classes_is_refused(defense: mp.LPA) -> None:
    with pytest.raises(ValueError, match="expected outputs with K=5 classes, as fitted, got K=3"):
        defend(text_pipeline({"num_labels": 3}), defense)(TEXTS)


def test_model_is_kept_in_eval_mode() -> None:
    plain = text_pipeline()
    plain.model.train()
    served = defend(plain, Rounding(2))
    assert served(TEXTS) == served(TEXTS) and not plain.model.training
    plain.model.train()
    with pytest.raises(RuntimeError, match="expected the model in eval mode"):
        served(TEXTS)
