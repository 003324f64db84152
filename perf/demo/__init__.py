"""A real GRPO training on virtual CPU devices: what `rlperf demo` runs and traces.

Read in this order: `task` (what is learned), `model` (the policy), `grpo` (the
formulas), `actor` (gradients and Adam), `topology` (which role lives where), `stages`
(one call for both tracers), `config`, `experience` (what a micro-batch goes through
before it is trained on), `measures` (the metrics it adds to), `train` (the loop).
"""
