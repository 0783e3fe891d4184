"""Random transactions give what a real server gave when they were recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.transaction_cases import SEEDS, answers, steps

RECORDED = json.loads(Path(__file__).with_name("transaction_answers.json").read_text())


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_transactions_give_what_a_real_server_gave(
    client: Any, namespace: str, set_name: str, seed: int
) -> None:
    given = answers(client, namespace, set_name, seed)
    for i, (got, expected) in enumerate(zip(given, RECORDED[seed], strict=True)):
        assert got == expected, f"step {i}: {(steps(seed) + [{}] * 5)[i]}"
