"""What test_long_run.py runs: a long training, of which it writes what the process holds."""

import json
import os
import sys
from pathlib import Path

from detectron2.engine import HookBase

from vfnet.engine import Trainer

from .tiny import picture, tiny_config

LOOKS = 5


class Meter(HookBase):
    """Notes memory, open files and threads of this process, in even distances."""

    def __init__(self):
        self.found = []

    def after_step(self):
        if (self.trainer.iter + 1) % (self.trainer.max_iter // LOOKS) == 0:
            status = Path("/proc/self/status").read_text()
            kib = int(status.split("VmRSS:")[1].split()[0])
            self.found.append((kib, open_files(), len(os.listdir("/proc/self/task"))))


def open_files():
    """What each open file is, but for the folder that tells."""
    numbers = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sorted(os.readlink(number) for number in numbers if os.path.lexists(number))


class Small(Trainer):
    """The real trainer with its hooks and writers, on two small pictures."""

    @classmethod
    def build_train_loader(cls, cfg, *, seed=0, start_iter=0):
        """Yield them for ever."""
        batches = [picture(i, num_boxes=boxes, size=(32, 32)) for i, boxes in enumerate((0, 6))]
        while True:
            yield batches


def main(folder, iterations):
    cfg = tiny_config(folder)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD = iterations, iterations // 2
    trainer = Small(cfg)
    meter = Meter()
    trainer.register_hooks([meter])
    trainer.resume_or_load(resume=False)
    trainer.train()
    Path(folder, "held.json").write_text(json.dumps([trainer.iter, meter.found]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
