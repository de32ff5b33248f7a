"""Runs that repeat each other to the last bit (SOLVER.DETERMINISTIC)."""

import os

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

# What cuBLAS needs to be deterministic; read when it is first used.
_CUBLAS_WORKSPACE = ":4096:8"


def make_deterministic(cfg: CfgNode, resuming: bool = False) -> list[str]:
    """Let this process choose algorithms that repeat themselves, where SOLVER.DETERMINISTIC is on.

    To be called on all processes together, before one uses a GPU. The config, not frozen, gets a
    SEED where it has none, unless it goes on with that of a checkpoint: it draws the first weights,
    too, and is dumped. PyTorch warns of each operation on a GPU that has no such algorithm, when it
    runs first.

    Returns:
        a line that says which seed was drawn.
    """
    if not cfg.SOLVER.DETERMINISTIC:
        return []
    use_deterministic_algorithms()
    if cfg.SEED >= 0 or resuming:
        return []
    cfg.SEED = int(comm.shared_random_seed())
    return [f"SOLVER.DETERMINISTIC: SEED {cfg.SEED} was drawn; with it, a run repeats this one"]


def use_deterministic_algorithms() -> None:
    """Let this process choose algorithms that give the same bits each time, where there are any."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
