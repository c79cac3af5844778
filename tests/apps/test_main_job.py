"""The main job at full size."""

import numpy as np
import pytest

from tests.kits.commands import WITH_CHECKS, events, results, search


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_greedy_ensemble_reaches_98_percent_over_three_seeds(tmp_path_factory: pytest.TempPathFactory) -> None:
    """32 trials with asha over mlp and cnn on the default split of digits with all checks, as `scripts/run` does it.

    Without what is trained beside the ensemble: it takes as long again.
    """
    plain = ("squeeze.longer.trials=0", "squeeze.distill.trials=0")
    accuracies = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp(f"seed{seed}")
        search(folder, f"seed={seed}", WITH_CHECKS, *plain)
        study = folder / "outputs" / "digits"
        assert len(events(study, "outcome")) == 32
        assert {e["params"]["model"] for e in events(study, "started")} == {"mlp", "cnn"}
        contenders = {c["name"]: c for c in results(study)["contenders"]}
        accuracies.append(contenders["greedy ensemble"]["test"]["value"])
    assert np.mean(accuracies) >= 0.98
