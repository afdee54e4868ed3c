"""A new subclass is enrolled in the contracts by existing, and one that breaks a contract fails that contract."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import lightning_regs

HERE = Path(__file__).parent
# Method -> the contracts that it breaks, at least.
BREAKS = {
    "KeepsAllContracts": set(),
    "DrawsFromTheGlobalGenerator": {"test_leaves_the_global_generators_to_the_module"},
    "DrawsTheSameOnEachRank": {"test_draws_depend_on_seed_batch_and_rank_or_on_none"},
    "SavesAnObject": {"test_checkpoint_loads_with_weights_only", "test_resume_at_an_epochs_end_is_bit_equal"},
    "ForgetsItsState": {"test_resume_at_an_epochs_end_is_bit_equal"},
    "PenaltyLostToScaling": {
        "test_16_mixed_with_the_scaler",
        "test_accumulation_takes_the_mean_of_the_batches_steps",
    },
    "ActsAfterClipping": {"test_clipping_has_the_last_word_on_the_gradient"},
    "DoesNothing": {"test_trains_and_acts"},
}


def test_a_new_subclass_is_enrolled_and_a_bad_one_is_found(tmp_path: Path) -> None:
    files = [HERE / f"test_contract_{name}.py" for name in ("training", "precision", "steps")]
    command = [sys.executable, "-m", "pytest", *map(str, files), "-q", "--tb=no", "-p", "enrolled_by_existing"]
    command += ["-p", "no:cacheprovider", f"--junitxml={tmp_path / 'results.xml'}"]
    command += ["-k", f"({' or '.join(BREAKS)}) and (dict or depend)"]
    path = os.pathsep.join([str(HERE), str(Path(lightning_regs.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1], check=False)
    assert done.returncode == 1, done.stdout + done.stderr  # some failed

    contracts: dict[str, set[str]] = defaultdict(set)
    broken: dict[str, set[str]] = defaultdict(set)
    for case in ET.parse(tmp_path / "results.xml").iter("testcase"):
        contract, _, rest = case.attrib["name"].partition("[")
        method = rest.partition("-")[0].rstrip("]")
        contracts[method].add(contract)
        if len(case):
            broken[method].add(contract)
    assert set(contracts) == set(BREAKS)
    assert all(found == contracts["KeepsAllContracts"] for found in contracts.values())
    assert len(contracts["KeepsAllContracts"]) >= 10
    for method, expected in BREAKS.items():
        assert expected <= broken[method], f"{method} should break {expected}, and breaks {broken[method]}"
    assert not broken["KeepsAllContracts"]
