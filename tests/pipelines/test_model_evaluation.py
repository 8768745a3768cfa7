"""A dataset becomes one score, or a reason why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from handler_testkit.endpoints import answering

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_testkit.endpoints import Exchange

    from .conftest import Bench

DATASET = [
    {"question": "Who wrote the first program?", "answer": ["Ada Lovelace", "Lovelace"]},
    {"question": "What is the capital of France?", "answer": "Paris"},
]
ANSWERS = {
    "Who wrote the first program?": "It was Ada, the Countess of Lovelace.",
    "What is the capital of France?": "Paris!",
}


async def model(exchange: Exchange) -> None:
    text = ANSWERS[exchange.request.json()["messages"][-1]["content"]]
    message = {"role": "assistant", "content": text}
    await exchange.json({"model": "m1", "choices": [{"index": 0, "message": message}]})


@pytest.mark.parametrize(
    ("metric", "answer", "right", "score"),
    [
        ("exact", "The  Eiffel-Tower.", "eiffeltower", 1.0),
        ("exact", "A tower in Paris", "tower in Paris", 1.0),
        ("exact", "tower in Paris", "Paris tower in", 0.0),
        ("exact", "“Paris”…", "Paris", 1.0),
        ("contains", "It is Paris, of course.", "paris", 1.0),
        ("contains", "It is Parisian.", "Paris", 0.0),
        ("contains", "in the summer of 1969", "summer of 1969", 1.0),
        ("contains", "of summer 1969", "summer of 1969", 0.0),
        ("contains", "anything", "the", 0.0),
        ("f1", "Paris", "Paris", 1.0),
        ("f1", "It is Paris", "Paris", 0.5),
        ("f1", "one two two", "two two three", 2 / 3),
        ("f1", "London", "Paris", 0.0),
        ("f1", "", "Paris", 0.0),
        ("f1", "the", "a", 1.0),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(
    step_module: Callable[[str], Any], metric: str, answer: str, right: str, score: float
) -> None:
    metrics = step_module("model_evaluation").METRICS
    assert metrics[metric](answer, right) == pytest.approx(score)


@pytest.mark.parametrize(("metric", "score"), [("exact", 0.5), ("contains", 1.0), ("f1", 0.75)])
async def test_the_score_is_the_mean_over_all_questions(bench: Bench, metric: str, score: float) -> None:
    bench.llm = model
    source = bench.serve("/d.jsonl", *DATASET)
    done = await bench.run("model-evaluation", dataset_url=source, metric=metric)
    assert done.code == 0, done.said
    found = done.lines("results.jsonl")
    assert [one["question"] for one in found] == [one["question"] for one in DATASET]
    assert float(done.parameters()["score"]) == pytest.approx(score)
    assert all(one["temperature"] == 0 for one in bench.asked())


async def test_a_score_below_the_minimum_fails_the_run_and_is_still_told(bench: Bench) -> None:
    bench.llm = model
    source = bench.serve("/d.jsonl", *DATASET)
    done = await bench.run("model-evaluation", dataset_url=source, metric="exact", minimum_score="0.6")
    assert done.code == 1
    assert "0.5000 is below the minimum of 0.6" in done.said
    assert done.parameters() == {"score": "0.500000"}
    done = await bench.run("model-evaluation", dataset_url=source, metric="exact", minimum_score="0.5")
    assert done.code == 0


async def test_a_question_without_an_answer_leaves_no_score(bench: Bench) -> None:
    async def failing(exchange: Exchange) -> None:
        if "capital" in exchange.request.json()["messages"][-1]["content"]:
            await exchange.json({"error": {"message": "too long"}}, 400)
        else:
            await model(exchange)

    bench.llm = failing
    done = await bench.run("model-evaluation", dataset_url=bench.serve("/d.jsonl", *DATASET))
    assert done.code == 2
    assert "1 of 2 questions got no answer, so there is no score" in done.said
    assert "too long" in done.said
    assert done.parameters() == {}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "there is no question in the dataset"),
        (["{", '{"question": "q"}', '{"answer": "a"}', '{"question": "q", "answer": [1]}'],
         "line 1 is not JSON: Expecting property name"),
        ([DATASET[0], {"question": "q"}, {"answer": "a"}],
         "line 2 has no `answer`: a text, or a list of texts; line 3 has no `question`"),
    ],
)  # fmt: skip
async def test_a_dataset_that_cannot_be_used_is_refused_before_anything_is_asked(
    bench: Bench, lines: list[Any], said: str
) -> None:
    bench.llm = model
    done = await bench.run("model-evaluation", dataset_url=bench.serve("/d.jsonl", *lines))
    assert done.code == 2
    assert said in done.said
    assert bench.asked() == []


async def test_an_answer_that_is_none_is_no_answer(bench: Bench) -> None:
    bench.llm = answering({"choices": []})
    done = await bench.run("model-evaluation", dataset_url=bench.serve("/d.jsonl", DATASET[0]))
    assert done.code == 2
    assert "answered without a choice" in done.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metric": "bleu"}, "METRIC is 'bleu', not one of exact, contains, f1"),
        ({"minimum_score": "2"}, "MINIMUM_SCORE is '2', not a number from 0 to 1"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(
    bench: Bench, given: dict[str, str], said: str
) -> None:
    done = await bench.run("model-evaluation", dataset_url=bench.serve("/d.jsonl", *DATASET), **given)
    assert done.code == 2
    assert said in done.said


async def test_the_real_endpoint_is_scored(bench: Bench, inference: str) -> None:
    passage = (
        "The old lighthouse stands on the northern cliff above the village. Its keeper lights the lamp every evening at "
        "sunset. The ferry to the island leaves from the harbour twice a day, and a ticket costs eleven dollars."
    )
    question = f"{passage}\n\nWhen does the keeper light the lamp of the lighthouse?"
    bench.environ["LLM_URL"] = f"{inference}/llm"
    source = bench.serve("/d.jsonl", {"question": question, "answer": "every evening at sunset"})
    done = await bench.run("model-evaluation", dataset_url=source, metric="contains", minimum_score="1")
    assert done.code == 0, (done.said, done.lines("results.jsonl"))
