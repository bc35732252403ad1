"""The 2023 report's own three networks, from their public sources.

A first use downloads the original file, checks that it fits, and keeps it as safetensors with a card that records its
sha256 under <family>_models/downloads/ (not committed); later uses read that and verify it.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import nn

from src.data.download import download_drive_file
from src.data.readers import hub_problem
from src.files import fingerprint, sha256
from src.models.mlp import BottleneckMLP
from src.models.weights import load_state, read_state_dict, read_weights, save_weights
from src.paths import ROOT

# Bachmann et al. 2023, B_12-Wi_1024: ImageNet-21k, then fine-tuned
MLP_DRIVE_IDS = {"cifar10": "1GyxuewoOzMRhzEOyUrIBLQzquc-QEYNV", "cifar100": "1LNqC58cSwtuDr-C4bk1O3GA_vAWls-UH"}
CNN_HUB_IDS = {dataset: f"edadaltocg/resnet18_{dataset}" for dataset in ("cifar10", "cifar100")}


def build_mlp(dataset: str, n_classes: int, *, pretrained: bool) -> nn.Module:
    """`B_12-Wi_1024` on 64-pixel images, with Bachmann et al.'s fine-tuned checkpoint for CIFAR-10 or CIFAR-100."""
    net = BottleneckMLP(blocks=12, width=1024, n_classes=n_classes, side=64)
    if pretrained:
        _check_dataset("mlp_b12_wi1024", dataset, MLP_DRIVE_IDS)
        file_id = MLP_DRIVE_IDS[dataset]
        kept = ROOT / "mlp_models" / "downloads" / f"mlp_b12_wi1024_{dataset}.safetensors"
        original = kept.with_suffix(".original")
        _load_once(net, kept, lambda: download_drive_file(file_id, original), source=f"Google Drive file {file_id}")
    return net


def build_cnn(dataset: str, n_classes: int, *, pretrained: bool) -> nn.Module:
    """ResNet-18 with a CIFAR stem (3×3 convolution, stride 1, no pooling), timm's key names."""
    import timm  # it takes longer to import than torch

    net = timm.create_model("resnet18", num_classes=n_classes)
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    if pretrained:
        _check_dataset("resnet18", dataset, CNN_HUB_IDS)
        hub_id = CNN_HUB_IDS[dataset]
        kept = ROOT / "cnn_models" / "downloads" / f"resnet18_{dataset}.safetensors"
        fetch = partial(_from_hub, f"pytorch_model.bin of {hub_id}", hf_hub_download, hub_id, "pytorch_model.bin")
        _load_once(net, kept, fetch, source=f"the hub's {hub_id}")
    return net


def build_vit(dataset: str, n_classes: int, *, pretrained: bool) -> nn.Module:
    """timm's ViT-S/16 (ImageNet-21k, then 1k) under a new head; notebook 01 trains one on `dataset`."""
    return build_timm("vit_small_patch16_224", n_classes, pretrained=pretrained)


def backbone_fingerprint(net: nn.Module) -> str:
    """Checksum of a timm network's weights without its classifier (or classifiers), which may be new and random."""
    names = net.default_cfg["classifier"]
    heads = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return fingerprint(*(value for key, value in net.state_dict().items() if not key.startswith(heads)))


def check_timm(name: str) -> None:
    """ValueError, with near names, for what is no network of timm's, or has no pretrained weights of that tag."""
    import timm  # it takes longer to import than torch

    base, _, tag = name.partition(".")
    known = timm.list_models() if not timm.is_model(base) else timm.list_pretrained(f"{base}.*") if tag else [name]
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=5)) or "none"
        raise ValueError(f"timm has no model {name!r}; near names: {near} (see timm.list_models())")


def build_timm(name: str, n_classes: int, *, pretrained: bool) -> nn.Module:
    """Any timm network with a new head of `n_classes`; pretrained weights come from the hub (timm caches them)."""
    import timm  # it takes longer to import than torch

    if pretrained and not timm.models.is_model_pretrained(name):
        raise ValueError(f"timm has no pretrained weights for {name!r}; build it untrained with weights=None")
    what = f"timm's weights for {name!r}"
    return _from_hub(what, timm.create_model, name, pretrained=pretrained, num_classes=n_classes)


def _check_dataset(model: str, dataset: str, choices: Iterable[str]) -> None:
    if dataset not in choices:
        raise ValueError(f"{model} was published for {', '.join(choices)}, not for {dataset!r}; use weights=None")


def _load_once(net: nn.Module, kept: Path, fetch, *, source: str) -> None:
    """Fill `net` from `kept`, or from what `fetch` downloads, which is then kept as safetensors with its checksum."""
    if not kept.exists():
        original = fetch()
        load_state(net, read_state_dict(original, f"{source} ({original})"), source=source)
        save_weights(net, kept, {"source": source, "source_sha256": sha256(Path(original))})
    load_state(net, read_weights(kept), source=str(kept))


def _from_hub(what: str, fetch: Callable, *arguments, **options):
    """The result of `fetch`; a RuntimeError that says the way out where the hub cannot be reached."""
    asks = options.get("pretrained", True)
    offline = asks and (constants.HF_HUB_OFFLINE or hub_problem() is not None)  # its client would try for 25 seconds
    try:
        with _offline_if(offline):
            return fetch(*arguments, **options)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = "which does not answer" if offline else str(error)
        raise RuntimeError(
            f"{what} cannot be had from the local cache or the hub ({reason}); go online once, "
            "or build the model @untrained, with weights=None"
        ) from error


@contextmanager
def _offline_if(offline: bool) -> Iterator[None]:
    """The hub's client takes what it has kept, and asks for nothing."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE or offline
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
