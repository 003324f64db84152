"""A GRPO training with google-tunix, recorded by rlperf: tunix's own code, unchanged.

    python -m perf.adapters.tunix examples/tunix_grpo.py --layout rollout-apart traces

trains a tiny model on virtual CPU devices and leaves in the folder `traces` the traces of
both tracers and TensorBoard's event files with the metrics. Nothing in here is rlperf's:
without `-m perf.adapters.tunix` the same script records with tunix's own tracer.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Read when JAX first looks for its devices.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=6"

import jax
import numpy as np
import optax
from tunix.models.dummy_model_creator import create_dummy_model
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.perf.experimental.export import PerfMetricsExport as PerfMetricsExportV2
from tunix.perf.export import PerfMetricsExport
from tunix.perf.metrics import PerfMetricsConfig, PerfMetricsOptions
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig
from tunix.sft.metrics_logger import MetricsLoggerOptions

MESHES = {
    "colocated": {Role.ROLLOUT: 0, Role.ACTOR: 0, Role.REFERENCE: 0},
    "rollout-apart": {Role.ROLLOUT: 0, Role.ACTOR: 1, Role.REFERENCE: 1},
    "all-apart": {Role.ROLLOUT: 0, Role.ACTOR: 1, Role.REFERENCE: 2},
}
"""Which role runs on which mesh, by layout."""
DEVICES_PER_MESH = 2
BATCH = 4
"""Prompts a global step."""


class Letters:
    """A tokenizer: a token is a letter."""

    alphabet = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = 3 + len(alphabet)

    def pad_id(self) -> int:
        return 0

    def bos_id(self) -> int:
        return 1

    def eos_id(self) -> int:
        return 2

    def encode(self, text: str) -> list[int]:
        return [3 + self.alphabet.index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.alphabet[i - 3] for i in ids if i >= 3)


def make_model(mesh: jax.sharding.Mesh) -> Llama3:
    """One of tunix's own models, tiny and with random weights."""
    config = ModelConfig(
        num_layers=1,
        vocab_size=Letters.vocabulary,
        embed_dim=16,
        hidden_dim=32,
        num_heads=2,
        head_dim=8,
        num_kv_heads=2,
        rope_theta=10_000,
        norm_eps=1e-5,
    )
    return create_dummy_model(Llama3, config, mesh=mesh, random_seed=7)


def vowels(prompts: list[str], completions: list[str], **_: object) -> list[float]:
    """The reward: how much of an answer is vowels."""
    return [sum(c in "aeiou" for c in text) / (len(text) or 1) for text in completions]


def make_cluster_config(
    layout: str, folder: Path, steps: int, micro_batches: int
) -> ClusterConfig:
    """Who runs where, and what is recorded and logged."""
    devices = np.array(jax.devices()).reshape(-1, DEVICES_PER_MESH, 1)
    training_config = RLTrainingConfig(
        actor_optimizer=optax.adam(1e-2),
        max_steps=steps,
        eval_every_n_steps=steps + 1,
        mini_batch_size=BATCH,
        train_micro_batch_size=BATCH // micro_batches,
        metrics_logging_options=MetricsLoggerOptions(str(folder / "tensorboard")),
        perf_metrics_options=PerfMetricsOptions(
            enable_perf_v2=True, trace_dir=str(folder)
        ),
    )
    rollout_config = RolloutConfig(
        max_prompt_length=8, max_tokens_to_generate=8, kv_cache_size=32
    )
    return ClusterConfig(
        role_to_mesh={
            role: jax.sharding.Mesh(devices[number], ("fsdp", "tp"))
            for role, number in MESHES[layout].items()
        },
        training_config=training_config,
        rollout_config=rollout_config,
    )


def main() -> None:
    arguments = parser().parse_args()
    config = make_cluster_config(
        arguments.layout, arguments.folder, arguments.steps, arguments.micro_batches
    )
    actor_mesh = config.role_to_mesh[Role.ACTOR]
    reference_mesh = config.role_to_mesh[Role.REFERENCE]
    with_reference = not arguments.no_reference
    cluster = RLCluster(
        actor=make_model(actor_mesh),
        reference=make_model(reference_mesh) if with_reference else None,
        tokenizer=Letters(),
        cluster_config=config,
        perf_config=PerfMetricsConfig(
            custom_export_fn=PerfMetricsExport.from_cluster_config(config),
            custom_export_fn_v2=PerfMetricsExportV2.from_cluster_config(
                config, trace_dir=str(arguments.folder)
            ).export_metrics,
        ),
    )
    learner = GRPOLearner(
        rl_cluster=cluster,
        algo_config=GRPOConfig(beta=0.04 if with_reference else 0.0),
        reward_fns=vowels,
    )
    prompts = np.array(["rl", "perf", "trace", "step"])
    learner.train([{"prompts": prompts}] * arguments.steps)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the traces and the metrics")
    parser.add_argument("--layout", choices=MESHES, default="colocated")
    parser.add_argument("--steps", type=int, default=3, help="global steps")
    parser.add_argument("--micro-batches", type=int, choices=[1, 2, 4], default=1)
    parser.add_argument("--no-reference", action="store_true")
    return parser


if __name__ == "__main__":
    main()
