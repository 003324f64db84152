"""A GRPO training with google-tunix, recorded by rlperf. Nothing in here is rlperf's.

    python -m perf.adapters.tunix examples/tunix_grpo.py --layout rollout-apart traces

trains a tiny model on virtual CPU devices and leaves in the folder `traces` the traces
of both tracers, and TensorBoard's event files with the metrics in `traces/tensorboard`.
The same script without `-m perf.adapters.tunix` records with tunix's own tracer.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from tunix.models.dummy_model_creator import create_dummy_model
from tunix.models.qwen3.model import ModelConfig, Qwen3
from tunix.perf.experimental.export import PerfMetricsExport as PerfMetricsExportV2
from tunix.perf.export import PerfMetricsExport
from tunix.perf.metrics import PerfMetricsConfig, PerfMetricsOptions
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig
from tunix.sft.metrics_logger import MetricsLoggerOptions, TensorboardBackend

MESHES = {
    "colocated": {Role.ROLLOUT: 0, Role.ACTOR: 0, Role.REFERENCE: 0},
    "rollout-apart": {Role.ROLLOUT: 0, Role.ACTOR: 1, Role.REFERENCE: 1},
    "all-apart": {Role.ROLLOUT: 0, Role.ACTOR: 1, Role.REFERENCE: 2},
}
"""By layout, which role is on which mesh."""
DEVICES_PER_MESH = 2
PROMPTS = ["rl", "perf", "trace", "step"]
"""The batch of a global step."""


class Letters:
    """A tokenizer: each letter is a token."""

    letters = "abcdefghijklmnopqrstuvwxyz"
    vocab_size = 3 + len(letters)

    def pad_id(self) -> int:
        """Fills up."""
        return 0

    def bos_id(self) -> int:
        """Begins a text."""
        return 1

    def eos_id(self) -> int:
        """Ends a text."""
        return 2

    def encode(self, text: str) -> list[int]:
        """Text to tokens."""
        return [3 + self.letters.index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        """Tokens to text."""
        return "".join(self.letters[i - 3] for i in ids if i >= 3)


def vowels(prompts: list[str], completions: list[str], **_: object) -> list[float]:
    """The reward: how much of an answer is vowels."""
    return [sum(c in "aeiou" for c in text) / max(1, len(text)) for text in completions]


def make_model(mesh: jax.sharding.Mesh) -> Qwen3:
    """One of tunix's own models, tiny and with random weights."""
    config = ModelConfig(
        num_layers=1,
        vocab_size=Letters.vocab_size,
        embed_dim=16,
        hidden_dim=32,
        num_heads=2,
        head_dim=8,
        num_kv_heads=2,
        rope_theta=10_000,
        norm_eps=1e-5,
    )
    return create_dummy_model(Qwen3, config, mesh=mesh, random_seed=7)


def use_virtual_devices() -> None:
    """Has JAX find enough CPU devices for all layouts; comes before its first use."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 3 * DEVICES_PER_MESH)


def make_meshes(layout: str) -> dict[Role, jax.sharding.Mesh]:
    """Lays the roles out."""
    rows = np.array(jax.devices()).reshape(3, DEVICES_PER_MESH, 1)
    meshes = [jax.sharding.Mesh(row, ("fsdp", "tp")) for row in rows]
    return {role: meshes[number] for role, number in MESHES[layout].items()}


def make_cluster_config(
    meshes: dict[Role, jax.sharding.Mesh], folder: Path, steps: int, micro_batches: int
) -> ClusterConfig:
    """What runs where, is logged and recorded."""
    log_dir = str(folder / "tensorboard")
    training_config = RLTrainingConfig(
        actor_optimizer=optax.adam(1e-2),
        critic_optimizer=optax.adam(1e-2),
        max_steps=steps,
        eval_every_n_steps=steps + 1,
        mini_batch_size=len(PROMPTS),
        train_micro_batch_size=len(PROMPTS) // micro_batches,
        # TensorBoard alone: W&B, where it is installed, would want a key.
        metrics_logging_options=MetricsLoggerOptions(
            log_dir,
            backend_kwargs={"custom_backend": [partial(TensorboardBackend, log_dir)]},
        ),
        perf_metrics_options=PerfMetricsOptions(
            enable_perf_v1=True, enable_perf_v2=True, trace_dir=str(folder)
        ),
    )
    rollout_config = RolloutConfig(
        max_prompt_length=8, max_tokens_to_generate=8, kv_cache_size=32
    )
    return ClusterConfig(
        role_to_mesh=meshes,
        training_config=training_config,
        rollout_config=rollout_config,
    )


def make_perf_config(config: ClusterConfig) -> PerfMetricsConfig:
    """The built-in metrics and traces of both tracers."""
    folder = config.training_config.perf_metrics_options.trace_dir
    v2 = PerfMetricsExportV2.from_cluster_config(config, trace_dir=folder)
    return PerfMetricsConfig(
        custom_export_fn=PerfMetricsExport.from_cluster_config(config),
        custom_export_fn_v2=v2.export_metrics,
    )


def make_learner(
    config: ClusterConfig, perf_config: PerfMetricsConfig | None
) -> GRPOLearner:
    """The learner on its cluster; with a reference if that has a mesh."""
    meshes = config.role_to_mesh
    has_reference = Role.REFERENCE in meshes
    cluster = RLCluster(
        actor=make_model(meshes[Role.ACTOR]),
        reference=make_model(meshes[Role.REFERENCE]) if has_reference else None,
        tokenizer=Letters(),
        cluster_config=config,
        perf_config=perf_config,
    )
    # Without a reference there is nothing to measure the penalty against.
    algorithm = GRPOConfig(beta=0.04 if has_reference else 0.0)
    return GRPOLearner(cluster, algorithm, reward_fns=vowels)


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="gets the traces and the metrics")
    parser.add_argument("--layout", choices=MESHES, default="colocated")
    parser.add_argument("--steps", type=int, default=3, help="global steps")
    parser.add_argument("--micro-batches", type=int, choices=[1, 2, 4], default=1)
    parser.add_argument("--no-reference", action="store_true")
    arguments = parser.parse_args()

    use_virtual_devices()
    meshes = make_meshes(arguments.layout)
    if arguments.no_reference:
        del meshes[Role.REFERENCE]
    config = make_cluster_config(
        meshes, arguments.folder, arguments.steps, arguments.micro_batches
    )
    learner = make_learner(config, make_perf_config(config))
    learner.train([{"prompts": np.array(PROMPTS)}] * arguments.steps)


if __name__ == "__main__":
    main()
