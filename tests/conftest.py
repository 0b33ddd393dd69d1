"""Shared by all tests: fixed seeds, quiet libraries, and tiny encoders."""

import os
from collections.abc import Iterator

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from coursekit.models import TransformerConfig


@pytest.fixture(autouse=True, scope="session")
def learners_progress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests solve is not what the learner solved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSEKIT_PROGRESS", str(tmp_path_factory.mktemp("progress") / "progress.json"))
        yield


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> TransformerConfig:
    """A BERT of three layers that runs in a millisecond."""
    return TransformerConfig(
        vocab_size=40, hidden_size=24, num_layers=3, num_heads=4, intermediate_size=36, max_positions=16
    )


@pytest.fixture
def drawing() -> Iterator[None]:
    """The course's style without a screen; figures are closed and the style is put back afterwards."""
    import matplotlib
    from matplotlib import pyplot as plt

    from coursekit.viz import use_style

    with matplotlib.rc_context():
        matplotlib.use("Agg")
        use_style()
        yield
    plt.close("all")
