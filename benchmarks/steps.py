"""A training step of 50 slices, as both APIs record it."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.subjects import ROLLOUT_DEVICE, TRAINER_DEVICE, Api

SLICES: Final = 50
_MICRO_BATCHES: Final = 5
_V2_NAMES: Final = {
    "refer_inference": "reference_inference",
    "peft_train_step": "peft_train",
}


def record_step(api: Api, tracer: Any, array: Any, number: int) -> None:
    """Records a step: 35 slices on the host, 15 on devices.

    Args:
        api: whose tracer it is.
        tracer: that knows `DEVICES`.
        array: what the work on devices results in.
        number: of the step.
    """
    v1 = api.version == 1

    def group(name: str) -> Any:
        return tracer.span_group(name) if v1 else tracer.span(name)

    def span(name: str, device: str | None = None, micro_batch: int = 0) -> Any:
        devices = None if device is None else [device]
        if v1:
            return tracer.span(name, devices)
        tags = {"step": number, "micro_batch_step": micro_batch}
        return tracer.span(_V2_NAMES.get(name, name), devices, tags=tags)

    with group("global_step"):
        with span("data_loading"):
            pass
        with group("mini_batch_step"), group("micro_batch_steps"):
            for i in range(_MICRO_BATCHES):
                with span("environment", None, i):
                    pass
                with span("rollout", ROLLOUT_DEVICE, i) as launched:
                    end_with(launched, array)
                with span("refer_inference", TRAINER_DEVICE, i) as launched:
                    end_with(launched, array)
                with span("advantage_computation", None, i):
                    pass
                with group("actor_training"):
                    with span("peft_train_step", TRAINER_DEVICE, i) as launched:
                        end_with(launched, array)
        with span("weight_sync"):
            pass


def end_with(span: Any, array: Any) -> None:
    """Says what a span's work results in, by v1's name or by v2's."""
    method = getattr(span, "device_end", None)
    (span.async_end if method is None else method)(array)
