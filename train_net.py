#!/usr/bin/env python3
"""Train and evaluate VFNet.

* `python train_net.py --config-file configs/vfnet_R50_1x.yaml --num-gpus 8`
* `torchrun --nproc-per-node 8 train_net.py --config-file configs/vfnet_R50_1x.yaml`
* `python train_net.py --config-file configs/vfnet_R50_1x.yaml --eval-only MODEL.WEIGHTS FILE`:
  weights, or a .onnx or .xml file that tools/export.py wrote
"""

import argparse
import itertools
import logging
import os
import sys

# Before detectron2, whose import would warn.
from vfnet.engine import report_errors  # isort: skip

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

import vfnet
from vfnet.checkpoint import VFNetCheckpointer, take_resize, training_resize
from vfnet.data import (
    check_datasets,
    publish_class_names,
    register_coco_format,
    register_test_sets,
)
from vfnet.data.transforms.views import build_resizes
from vfnet.engine import (
    Trainer,
    check_not_moved,
    check_run,
    checkpoint_to_continue,
    choose_device,
    clean,
    config_warnings,
    datasets_of_run,
    group_timeout,
    in_iterations,
    launch,
    load_config,
    log_on_full_disks,
    make_deterministic,
    only_run_in,
    schedule_warnings,
)
from vfnet.errors import UserError
from vfnet.export.exported import is_exported, load_exported
from vfnet.export.score import check_scorable, score_exported
from vfnet.run_page import tell_run
from vfnet.run_page.commands import start_command
from vfnet.run_page.log import describe_start
from vfnet.utils.comm import check_on_all_processes, on_main_process
from vfnet.utils.files import writing
from vfnet.utils.precision import avoid_amx


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse Detectron2's arguments, `--resume auto` and `--override`."""
    parser = default_argument_parser()
    # Detectron2's is a port of the user's: of two runs on a machine, the second one would fail.
    parser.set_defaults(dist_url="auto")
    parser.add_argument(
        "--resume-auto",
        action="store_true",
        help="also written `--resume auto`: as --resume, but starts afresh where there is nothing "
        "to resume, for jobs that are requeued",
    )
    parser.add_argument(
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="yaml files that win over --config-file, a later one over an earlier one",
    )
    args = parser.parse_args(_join_resume_auto(argv))
    words = args.override
    args.override = list(itertools.takewhile(_is_yaml, words))
    if words and not args.override:
        parser.error(f"--override expects files that end in .yaml, got {words[0]}")
    # KEY VALUE pairs may follow the files directly.
    args.opts = words[len(args.override) :] + args.opts
    args.resume_required = args.resume and not args.resume_auto
    args.resume = args.resume or args.resume_auto
    return args


def _is_yaml(word: str) -> bool:
    return word.endswith((".yaml", ".yml"))


def _join_resume_auto(argv: list[str]) -> list[str]:
    # KEY VALUE pairs may follow `--resume` directly, so it cannot take an optional value itself.
    joined: list[str] = []
    for token in argv:
        if token == "auto" and joined[-1:] == ["--resume"]:
            joined[-1] = "--resume-auto"
        else:
            joined.append("--resume-auto" if token == "--resume=auto" else token)
    return joined


def setup(args: argparse.Namespace) -> CfgNode:
    """Build the config, and check the run before anything of an earlier one is overwritten."""
    cfg = load_config(args.config_file, args.opts, args.override)
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, args.num_gpus)
    training = not args.eval_only
    names = datasets_of_run(cfg, training)
    last = find_last(cfg, args) if args.resume else ""

    def prepare() -> str:
        (register_coco_format if training else register_test_sets)(cfg)
        publish_class_names(cfg)
        check_datasets(names)
        # A checkpoint of this run is tested with the resizing that it was trained with.
        return "" if training or last else take_resize(cfg)

    def check() -> list[str]:
        if cfg.TEST.AUG.ENABLED:
            build_resizes(cfg)
        weights = last or cfg.MODEL.WEIGHTS
        if is_exported(weights):
            check_file(cfg, weights, training)
            weights = ""
        lines = check_run(cfg, names, weights, training, resuming=bool(last))
        return [*lines, training_resize(cfg) if training and not last else resize]

    # Each process has catalogs of its own, and each machine its own files.
    resize = check_on_all_processes(prepare, everywhere=True) or ""
    said: list[str] = []
    late_steps = schedule_warnings(cfg) if training else []
    if training:
        cfg, said = in_iterations(cfg)
        said += make_deterministic(cfg, resuming=bool(last))
        if cfg.SOLVER.AMP.ENABLED:
            avoid_amx()
    cfg.freeze()
    found = [line for line in check_on_all_processes(check) or [] if line]
    with writing(os.path.join(cfg.OUTPUT_DIR, "config.yaml")):
        default_setup(cfg, args)
        logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="vfnet")
    log_on_full_disks()
    started = (vfnet.__version__, os.getcwd(), start_command(), comm.get_world_size())
    logger.info(describe_start(*started))
    for line in said:
        logger.info(line)
    for line in [*late_steps, *config_warnings(cfg, training), *found]:
        logger.warning(line)
    return cfg


def find_last(cfg: CfgNode, args: argparse.Namespace) -> str:
    """Return the path of the checkpoint that `--resume` goes on with, "" for none.

    What it passes over is said when the run itself loads.

    Raises:
        UserError: see `checkpoint_to_continue`; or the run was moved, as its config does not know.
    """
    if "OUTPUT_DIR" not in args.opts:
        on_main_process(lambda: check_not_moved(args.config_file, cfg.OUTPUT_DIR))
    return checkpoint_to_continue(
        cfg.OUTPUT_DIR, required=args.resume_required, warn=lambda line: None
    )


def check_file(cfg: CfgNode, file: str, training: bool) -> None:
    """Check that an exported file in place of weights can be used.

    Raises:
        UserError: it cannot be loaded or scored, or a training run is to start from it.
    """
    if training:
        raise UserError(
            f"MODEL.WEIGHTS {file} is a file for another runtime, which cannot be trained: name "
            "the weights that it was made of"
        )
    check_scorable(load_exported(file), cfg)


def evaluate(cfg: CfgNode, resume: bool) -> dict:
    """Score the weights on DATASETS.TEST, and compare with TEST.EXPECTED_RESULTS.

    With TEST.AUG.ENABLED also with test-time augmentation ("bbox_TTA"), and with TEST.SLICE.SIZE
    also on slices of the pictures ("bbox_slices"). In place of weights, MODEL.WEIGHTS may name an
    exported file.
    """
    last = checkpoint_to_continue(cfg.OUTPUT_DIR, required=False) if resume else ""
    if is_exported(cfg.MODEL.WEIGHTS) and not last:
        results = score_exported(cfg, load_exported(cfg.MODEL.WEIGHTS))
    else:
        results = evaluate_weights(cfg, last or cfg.MODEL.WEIGHTS)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def evaluate_weights(cfg: CfgNode, weights: str) -> dict:
    """Score a checkpoint; see `evaluate`."""
    model = Trainer.build_model(cfg)
    if not weights:
        logging.getLogger("vfnet").warning(
            "evaluating random weights: MODEL.WEIGHTS is empty; set it, or give --resume"
        )
    VFNetCheckpointer(model, whole_detector=True).load(weights)
    results = Trainer.test(cfg, model)
    for test in Trainer.further_tests(cfg, model):
        results.update(test())
    return results


def main(args: argparse.Namespace) -> dict | None:
    """Train or evaluate, on each process of the job."""
    if args.eval_only:
        return evaluate(setup(args), args.resume)
    with only_run_in(load_config(args.config_file, args.opts, args.override).OUTPUT_DIR):
        cfg = setup(args)
        clean(cfg.OUTPUT_DIR)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        try:
            return trainer.train()
        finally:
            # However it ended: run.html tells it, as far as it came.
            if comm.is_main_process():
                tell_run(cfg.OUTPUT_DIR)


def invoke_main() -> None:
    """Run the command line."""
    args = parse_args(sys.argv[1:])
    with report_errors():
        cfg = load_config(args.config_file, args.opts, args.override)
        launch(
            main,
            (args,),
            device=cfg.MODEL.DEVICE,
            num_gpus=args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            timeout=group_timeout(cfg),
        )


if __name__ == "__main__":
    invoke_main()
