"""Run folders as a finished run leaves them, without a run."""

import json

RESULT = {
    "task": "train", "model": "odenet", "dynamics": "conv", "data": "digits", "solver": "dopri5", "gradient": "adjoint",
    "rtol": 1e-3, "atol": 1e-3, "seed": 0, "parameters": 208266, "epochs": 2, "steps": 4, "train_loss": 0.1,
    "test_loss": 0.2, "test_error": 0.06, "nll": None, "bits_per_dim": None, "rmse": None, "nfe_forward": 26.0,
    "nfe_backward": 20.0, "nfe_test": 26.0, "steps_accepted": 4.0, "steps_rejected": 0.0, "numerical_error": 1e-3,
    "gradient_error": 2e-2, "reconstruction_error": 5e-3, "memory_saved_mib": 1.0, "memory_peak_mib": 800.0,
    "seconds": 19.0, "examples_per_second": 82.0, "device": "cpu", "status": "done",
}  # fmt: skip


def fabricate(folder, words=(), status="done", error=None, settings=(), **result):
    """``words`` are its overrides; ``settings`` and ``result`` what differs from those of RESULT."""
    (folder / ".hydra").mkdir(parents=True)
    result = RESULT | result
    names = {f"{group}.name": result[group] for group in ("model", "data", "solver", "gradient") if result[group]}
    identity = names | {"seed": result["seed"]}
    (folder / "status.json").write_text(json.dumps({"status": status, "error": error, "identity": identity}))
    (folder / ".hydra" / "overrides.yaml").write_text("\n".join(f"- {word}" for word in words) or "[]")
    settings = {"solver.rtol": result["rtol"], "solver.dt": None, "seed": result["seed"]} | dict(settings)
    start = {"versions": {"noderun": "0.1.0"}, "threads": 1, "settings": settings, "date": "2026-01-02 03:04+01:00"}
    (folder / "environment.json").write_text(json.dumps(start))
    rows = [
        {"step": 2 * epoch, "epoch": epoch, "loss/train": 1 / epoch, "loss/test": 1.1 / epoch, "error/train": 0.1,
         "error/test": 0.2, "nfe/forward": result["nfe_forward"], "nfe/backward": result["nfe_backward"],
         "time/forward_ms": 3.0}
        for epoch in (1, 2)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if status == "done":
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def tolerance_grid(folder, seeds=(0, 1), **result):
    """Two tolerances x two gradient methods x seeds; the error falls and the NFE rise with the tolerance."""
    for tolerance, nfe in ((0.1, 14.0), (0.001, 38.0)):
        for gradient, backward, saved in (("adjoint", nfe + 6, 0.0), ("backprop", None, nfe / 10)):
            for seed in seeds:
                words = [f"tolerance={tolerance}", f"gradient={gradient}", f"seed={seed}", "model.width=8"]
                numbers = {"rtol": tolerance, "atol": tolerance, "numerical_error": tolerance, "nfe_forward": nfe}
                costs = {"nfe_backward": backward, "memory_saved_mib": saved, "test_error": 0.05 + seed / 100}
                costs["test_loss"] = 0.2 + tolerance
                name = f"{gradient}-{tolerance}-{seed}"
                fabricate(folder / name, words, gradient=gradient, seed=seed, **numbers, **costs, **result)
    return folder
