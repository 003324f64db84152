"""A PPO training with google-tunix: the example's, with a critic."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tunix_grpo as example
from tunix.rl.ppo.ppo_learner import PPOConfig, PPOLearner
from tunix.rl.rl_cluster import RLCluster, Role
from tunix.rl.utils import create_critic_model

if __name__ == "__main__":
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    example.use_virtual_devices()
    meshes = example.make_meshes("colocated")
    meshes[Role.CRITIC] = meshes[Role.ACTOR]
    config = example.make_cluster_config(meshes, folder, steps, micro_batches=2)
    actor = example.make_model(meshes[Role.ACTOR])
    cluster = RLCluster(
        actor=actor,
        critic=create_critic_model(actor),
        reference=example.make_model(meshes[Role.REFERENCE]),
        tokenizer=example.Letters(),
        cluster_config=config,
        perf_config=example.make_perf_config(config),
    )
    learner = PPOLearner(cluster, PPOConfig(), reward_fns=example.vowels)
    learner.train([{"prompts": np.array(example.PROMPTS)}] * steps)
