"""The 2023 report's own three networks, from their public sources.

A first use downloads the original file, checks that it fits, and keeps it as safetensors with a card that records its
sha256 under <family>_models/downloads/ (not committed); later uses read that and verify it.
"""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import nn

from src.data.download import download_drive_file
from src.files import fingerprint, sha256
from src.models.mlp import BottleneckMLP
from src.models.weights import find_weights, load_state, read_card, read_state_dict, read_weights, save_weights
from src.paths import ROOT

# Bachmann et al. 2023, B_12-Wi_1024: ImageNet-21k, then fine-tuned
MLP_DRIVE_IDS = {"cifar10": "1GyxuewoOzMRhzEOyUrIBLQzquc-QEYNV", "cifar100": "1LNqC58cSwtuDr-C4bk1O3GA_vAWls-UH"}
CNN_HUB_IDS = {dataset: f"edadaltocg/resnet18_{dataset}" for dataset in ("cifar10", "cifar100")}


def build_mlp(dataset: str, n_classes: int, *, weights: str | None) -> nn.Module:
    """`B_12-Wi_1024` on 64-pixel images, with Bachmann et al.'s fine-tuned checkpoint for CIFAR-10 or CIFAR-100."""
    net = BottleneckMLP(blocks=12, width=1024, n_classes=n_classes, side=64)
    if _wants_weights("mlp_b12_wi1024", weights, dataset, MLP_DRIVE_IDS):
        file_id = MLP_DRIVE_IDS[dataset]
        kept = ROOT / "mlp_models" / "downloads" / f"mlp_b12_wi1024_{dataset}.safetensors"
        original = kept.with_suffix(".original")
        _load_once(net, kept, lambda: download_drive_file(file_id, original), source=f"Google Drive file {file_id}")
    return net


def build_cnn(dataset: str, n_classes: int, *, weights: str | None) -> nn.Module:
    """ResNet-18 with a CIFAR stem (3×3 convolution, stride 1, no pooling), timm's key names."""
    net = timm.create_model("resnet18", num_classes=n_classes)
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    if _wants_weights("resnet18", weights, dataset, CNN_HUB_IDS):
        hub_id = CNN_HUB_IDS[dataset]
        kept = ROOT / "cnn_models" / "downloads" / f"resnet18_{dataset}.safetensors"
        fetch = partial(_from_hub, f"pytorch_model.bin of {hub_id}", hf_hub_download, hub_id, "pytorch_model.bin")
        _load_once(net, kept, fetch, source=f"the hub's {hub_id}")
    return net


def build_vit(dataset: str, n_classes: int, *, weights: str | None) -> nn.Module:
    """timm's ViT-S/16 (ImageNet-21k, then 1k) under the linear head that notebook 01 trains on `dataset`.

    weights: "default" for backbone and head, "backbone" for ImageNet's backbone under an untrained head.
    """
    name = "vit_small_patch16_224"
    net = build_timm(name, n_classes, pretrained=_wants_weights(name, weights, choices=("default", "backbone")))
    if weights == "default":
        head = find_weights("vit", name, dataset, "default")
        if read_card(head).get("backbone") != {name: backbone_fingerprint(net)}:
            raise ValueError(f"{head.name} was trained on another backbone than timm's {name} is now; run 01 again")
        backbone = {key: value for key, value in net.state_dict().items() if not key.startswith("head.")}
        load_state(net, backbone | read_weights(head), source=str(head))
    return net


def backbone_fingerprint(net: nn.Module) -> str:
    """Checksum of a timm network's weights without its classifier (or classifiers), which may be new and random."""
    names = net.default_cfg["classifier"]
    heads = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return fingerprint(*(value for key, value in net.state_dict().items() if not key.startswith(heads)))


def build_timm(name: str, n_classes: int, *, pretrained: bool) -> nn.Module:
    """Any timm network with a new head of `n_classes`; pretrained weights come from the hub (timm caches them)."""
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=5)) or "none"
        raise ValueError(f"timm has no model {name!r}; near names: {near} (see timm.list_models())")
    if pretrained and not timm.models.is_model_pretrained(name):
        raise ValueError(f"timm has no pretrained weights for {name!r}; build it untrained with weights=None")
    what = f"timm's weights for {name!r}"
    return _from_hub(what, timm.create_model, name, pretrained=pretrained, num_classes=n_classes)


def _wants_weights(model: str, weights: str | None, dataset="", published=None, choices=("default",)) -> bool:
    """Whether weights are asked for; ValueError where there are none of that label, or for that data set."""
    if weights is not None and weights not in choices:
        raise ValueError(f"{model} has no weights {weights!r}; choose from {', '.join(choices)}, or None for untrained")
    if weights is not None and published and dataset not in published:
        raise ValueError(f"{model} was published for {', '.join(published)}, not for {dataset!r}; use weights=None")
    return weights is not None


def _load_once(net: nn.Module, kept: Path, fetch, *, source: str) -> None:
    """Fill `net` from `kept`, or from what `fetch` downloads, which is then kept as safetensors with its checksum."""
    if not kept.exists():
        original = fetch()
        load_state(net, read_state_dict(original, source), source=source)
        save_weights(net, kept, {"source": source, "source_sha256": sha256(Path(original))})
    load_state(net, read_weights(kept), source=str(kept))


def _from_hub(what: str, fetch: Callable, *arguments, **options):
    """The result of `fetch`; a RuntimeError that says the way out where the hub cannot be reached."""
    try:
        return fetch(*arguments, **options)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise RuntimeError(
            f"{what} cannot be had from the local cache or the hub ({error}); go online once, "
            "or build the model untrained with weights=None"
        ) from error
