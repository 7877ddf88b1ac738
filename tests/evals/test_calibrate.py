from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evals.answers import Run, write_run
from evals.calibrate import calibrate, fit, main
from evals.dataset import Relevant
from proto.errors import Invalid
from tests.evals.small import answer, hit, of_part, question, run

SPAN = Relevant("gate", 10, 20)


def known_world(groups: int = 120, *, part: str = "train", seed: int = 5) -> Run:
    """Hits whose correctness follows a logistic law of their feature z; a third of the questions is absent."""
    chance = np.random.default_rng(seed)
    pairs = []
    for number in range(groups):
        absent = number % 3 == 0
        hits = []
        for _ in range(5):
            z = float(chance.normal(-3 if absent else 0, 1.5))
            right = not absent and chance.random() < 1 / (1 + np.exp(-(2 * z - 1)))
            start_s = 10 if right else 40
            hits.append(hit("gate", start_s, start_s + 10, features={"z_camera": z, "noise": float(chance.normal())}))
        asked = question(str(number)) if absent else question(str(number), SPAN)
        pairs.append((asked, answer(asked.qid, *hits)))
    return run(of_part(part, pairs))


def test_the_fit_finds_the_law_that_made_the_data() -> None:
    chance = np.random.default_rng(6)
    features = chance.normal(size=(20_000, 2)) * [1.0, 5.0]
    right = (chance.random(20_000) < 1 / (1 + np.exp(-(features @ [2.0, -0.3] - 1)))).astype(float)
    model = fit(features, right, ["a", "b"])
    assert model.weights == pytest.approx([2.0, -0.3], rel=0.1)
    assert model.bias == pytest.approx(-1, abs=0.1)


def test_a_fit_ends_where_the_classes_are_apart() -> None:
    features = np.linspace(-1, 1, 40)[:, None]
    model = fit(features, (features[:, 0] > 0).astype(float), ["a"])
    confidence = model.confidence(features)
    assert np.isfinite(model.weights).all()
    assert confidence[0] < 0.1
    assert confidence[-1] > 0.9


def test_a_better_score_is_never_less_sure() -> None:
    chance = np.random.default_rng(7)
    features = chance.normal(size=(500, 3))
    right = (features[:, 2] - features[:, 0] + features[:, 1] > 0).astype(float)
    model = fit(features, right, ["z_camera", "log10_e", "other"])
    assert model.weights[0] == 0
    assert model.weights[1] == 0
    assert model.weights[2] > 0


def test_a_calibration_refuses_absent_questions_and_keeps_present_ones() -> None:
    found = calibrate(known_world())
    assert found.refused >= 0.95
    assert found.lost < 0.35
    assert found.ece < 0.06
    assert found.model.weights[0] > 1
    assert abs(found.model.weights[1]) < 0.4


def test_the_file_has_the_form_that_a_bundle_carries(tmp_path: Path) -> None:
    write_run(known_world(), tmp_path / "run")
    features = ["--feature", "z_camera", "--feature", "noise"]
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "calibration.json"), *features]) == 0
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert list(written) == ["version", "features", "weights", "bias", "threshold", "trained_on"]
    assert written["version"] == 1
    assert written["features"] == ["z_camera", "noise"]
    assert 0 < written["threshold"] < 1
    assert "small" in written["trained_on"]


def test_the_test_part_is_never_learned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = known_world(), known_world(part="test", seed=99)
    pairs = [(one, train.answers[one.qid]) for one in train.dataset.questions]
    renamed = [
        (question(f"t{one.qid}", *one.relevant, part="test"), test.answers[one.qid]) for one in test.dataset.questions
    ]
    both = run(pairs + [(one, answer(one.qid, *given.hits)) for one, given in renamed])
    assert calibrate(both).plain()["weights"] == calibrate(train).plain()["weights"]
    write_run(test, tmp_path)
    assert main([str(tmp_path), "--out", str(tmp_path / "out.json")]) == 2
    assert "no features of hits in its train part" in capsys.readouterr().err


def test_features_that_are_missing_or_not_finite_are_refused() -> None:
    pairs = [(question(str(number)), answer(str(number), hit(features={"z": 1.0}))) for number in range(3)]
    odd = (question("9"), answer("9", hit(features={"y": 1.0})))
    with pytest.raises(Invalid, match="same features"):
        calibrate(run(of_part("train", [*pairs, odd])))
    odd = (question("9"), answer("9", hit(features={"z": float("inf")})))
    with pytest.raises(Invalid, match="not finite: z"):
        calibrate(run(of_part("train", [*pairs, odd])))
    with pytest.raises(Invalid, match="all right, or all wrong"):
        calibrate(run(of_part("train", pairs)))
