"""Schema models: every version, every decision about it, and what it was held against."""

from __future__ import annotations

from orchestration.tables.explanations import ATTENTION_WEIGHTS
from orchestration.tables.layout import FORECAST_KEY, LAKE_SNAPSHOT, RUN, SOURCE, OutputTable

REGISTRY = OutputTable(
    "models.registry",
    "Every trained model version: what it saw, how it was made and whether it is the champion.",
    ("model", "model_version"),
    {
        "model": ("VARCHAR", "model by name"),
        "model_version": (
            "VARCHAR",
            "training date and a hash of data, configuration, seed and code",
        ),
        **SOURCE,
        "trained_as_of": ("DATE", "last day of information that training used"),
        "train_start": ("DATE", "first day of the training window"),
        "train_end": ("DATE", "last day of the training window"),
        "snapshot_hash": ("VARCHAR", "content hash of the snapshot that the worker read"),
        "data_hash": ("VARCHAR", "content hash of the panel, cut at trained_as_of"),
        "artifact_hash": ("VARCHAR", "sha256 of the artefact; checked before use"),
        "artifact_uri": (
            "VARCHAR",
            "folder of model.safetensors and model.json, relative to the artefact store",
        ),
        "code_version": ("VARCHAR", "hash of the ml sources that trained it"),
        "config": ("JSON", "model configuration"),
        "seed": ("BIGINT", "random seed"),
        "device": ("VARCHAR", "cpu or the CUDA device's name"),
        "metrics": ("JSON", "training metrics"),
        "status": ("VARCHAR", "champion, candidate or retired"),
        "status_reason": ("VARCHAR", "why the status"),
        "gate_verdicts": ("JSON", "the gate verdicts that let training start"),
        **RUN,
        **LAKE_SNAPSHOT,
    },
)

STUDIES = OutputTable(
    "models.studies",
    "Hyper-parameter studies of the attention model, a row per trial: what was tried, and how well it did on validation blocks.",
    ("study", "trial"),
    {
        "study": ("VARCHAR", "study by name: a hash of data, origins, configuration and code"),
        "trial": ("INTEGER", "trial by number; 0 is the configuration of the day"),
        **SOURCE,
        "origins": ("VARCHAR", "training days at which the trial was judged, comma separated"),
        "parameters": ("VARCHAR", "what was tried, JSON"),
        "value": (
            "DOUBLE",
            "QLIKE of the network over the anchor's, mean over origins; null unless complete",
        ),
        "origin_values": ("VARCHAR", "the same by origin, as far as the trial came, JSON"),
        "state": ("VARCHAR", "complete, pruned or failed"),
        "detail": ("VARCHAR", "why it was pruned or failed"),
        "seconds": ("DOUBLE", "wall time"),
        "proposed": (
            "BOOLEAN",
            "whether the study proposes it; VOLCAST_ATTENTION_CONFIG adopts it",
        ),
        "reason": ("VARCHAR", "why the study proposes it, or why it proposes nothing"),
        "seed": ("BIGINT", "seed of sampler and fits"),
        "code_version": ("VARCHAR", "hash of the sources of ml/"),
        "snapshot_hash": ("VARCHAR", "content hash of the data"),
        **RUN,
    },
)

DECISIONS = OutputTable(
    "models.decisions",
    "Every decision of the learning loop, with its reason: who leads, and which model is trained again. Made of as_of D, it holds from D+1 on.",
    ("as_of", "kind", "model", "horizon"),
    {
        **SOURCE,
        "as_of": ("DATE", "decision day: what was known at its decision time decided"),
        "kind": (
            "VARCHAR",
            "promote, keep (the champion), refuse (a challenger); retrain, drift (without a retrain), steady",
        ),
        "model": FORECAST_KEY["model"],
        "horizon": ("INTEGER", "days h of the figures that decided; 0: all horizons"),
        "model_version": ("VARCHAR", "version that served the day; null where none did"),
        "statistic": ("DOUBLE", "figure that decided; the reason says which"),
        "threshold": ("DOUBLE", "what it was held against"),
        "reason": ("VARCHAR", "why, with the figures"),
        "evidence_from": ("DATE", "first as_of of the evidence"),
        "evidence_to": ("DATE", "last as_of of the evidence"),
        **RUN,
    },
)

DRIFT = OutputTable(
    "models.drift",
    "Drift of features, errors and attention of each model, every Sunday: what was measured, and against what.",
    ("as_of", "model", "kind", "measure", "subject"),
    {
        **SOURCE,
        "as_of": ("DATE", "decision day"),
        "model": FORECAST_KEY["model"],
        "model_version": ("VARCHAR", "version that served the day"),
        "kind": ("VARCHAR", "features, errors or attention"),
        "measure": (
            "VARCHAR",
            "kolmogorov_smirnov, psi, page_hinkley, log_bias or jensen_shannon",
        ),
        "subject": ("VARCHAR", "feature, or what the series is"),
        "statistic": ("DOUBLE", "the measure; null where it is not judged"),
        "threshold": ("DOUBLE", "above it the verdict is drift"),
        "verdict": ("VARCHAR", "drift, steady or not judged"),
        "reason": ("VARCHAR", "the figures, or what is missing"),
        "reference_from": ("DATE", "first day of what it is held against"),
        "reference_to": ("DATE", "last day of it"),
        "reference_days": ("INTEGER", "days with values"),
        "monitored_from": ("DATE", "first of the newest days"),
        "monitored_to": ("DATE", "last of them"),
        "monitored_days": ("INTEGER", "days with values"),
        **RUN,
    },
)

ATTENTION_PROFILES = OutputTable(
    "models.attention_profiles",
    "Mean attention by token group on the last days of each version's training window: what drift of attention is held against.",
    ("model", "model_version", "as_of", "scale", "modality"),
    {
        **SOURCE,
        "model": FORECAST_KEY["model"],
        "model_version": FORECAST_KEY["model_version"],
        "as_of": FORECAST_KEY["as_of"],
        "scale": ATTENTION_WEIGHTS.columns["scale"],
        "modality": ATTENTION_WEIGHTS.columns["modality"],
        "share": ("DOUBLE", "share of attention, mean over coins, layers and heads"),
    },
)

TABLES = (
    REGISTRY,
    STUDIES,
    DECISIONS,
    DRIFT,
    ATTENTION_PROFILES,
)
