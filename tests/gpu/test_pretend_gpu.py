"""The pretend GPU itself: it refuses what a GPU refuses, allows what it allows, and counts waits where they are."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from pretend_gpu import pretend_gpu
from torch import nn

from src.models.checks import check_images
from src.runtime import device_label, pick_device, provenance


@pytest.fixture
def gpu():
    with pretend_gpu() as gpu:
        yield gpu


@pytest.fixture
def x(gpu):
    return torch.arange(24.0).view(2, 3, 4).to("cuda")


def test_the_machine_has_a_gpu_only_meanwhile():
    with pretend_gpu():
        assert pick_device("auto") == torch.device("cuda") and pick_device("cuda:0").index == 0
        assert device_label(torch.device("cuda")) == provenance("cuda")["device"] == "Pretend"
        with pytest.raises(ValueError, match="device 'cuda:1' is not on this machine"):
            pick_device("cuda:1")
        left = torch.ones(3, device="cuda")
    assert not torch.tensor([1.0]).is_cuda
    with pytest.raises(RuntimeError, match="after its end"):
        left + 1


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: torch.cat([y, x]),
        lambda x, y: x @ y.mT,
        lambda x, y: torch.where(y > 0, x, 0.0),
        lambda x, y: x.index_select(0, torch.tensor([0])),
        lambda x, y: x.gather(0, torch.zeros(1, 3, 4, dtype=torch.long)),
        lambda x, y: nn.Linear(4, 2)(x),
        lambda x, y: y[x[0, 0].long()],
        lambda x, y: F.cross_entropy(x[0], torch.tensor([0, 1, 2])),
        lambda x, y: torch.stack([x[0, 0, 0], torch.tensor(1.0)]),
        lambda x, y: y.add_(x),
    ],
)
def test_tensors_of_two_devices_do_not_meet(x, mix):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device.* cuda:0 and cpu"):
        mix(x, torch.ones(2, 3, 4))


@pytest.mark.parametrize(
    ("meet", "expected"),
    [
        (lambda x: x + torch.tensor(1.0), 25 * 12.0),  # a scalar of the CPU
        (lambda x: x[torch.tensor([1])], sum(range(12, 24))),  # an index of the CPU
        (lambda x: x[[0], :, [3]], 3 + 7 + 11),
        (lambda x: torch.where(x > 20, x, 0.0), 21 + 22 + 23),
        (lambda x: x.new_tensor([1, 2]) * x.new_full((2,), 0.5), 1.5),
        (lambda x: torch.tensor([1.0, 2.0], device=x.device) + torch.as_tensor([1.0, 1.0], device="cuda"), 5.0),
        (lambda x: F.one_hot(x[0, 0].long()).float(), 4.0),
        (lambda x: torch.empty_like(x).copy_(torch.ones(2, 3, 4)), 24.0),
    ],
)
def test_what_cuda_allows_is_allowed(x, meet, expected):
    made = meet(x)
    assert made.device == torch.device("cuda:0") and made.is_cuda and float(made.sum()) == expected


def test_numbers_leave_by_a_copy_alone(x):
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"):
        x.numpy()
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.rand(3, device="cuda", generator=torch.Generator())
    assert x.cpu().numpy().sum() == sum(range(24)) and type(x.cpu()) is torch.Tensor


@pytest.mark.parametrize(
    ("step", "n"),
    [
        (lambda x: x.sum() * 2 + x.amax() / x.mean(), 0),
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 3).any()) and float(x[0, 0, 0]), 2),
        (lambda x: x[x > 3], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x.clone().index_put_((x > 3,), torch.zeros((), device="cuda")), 0),  # filled, not counted
        (lambda x: x.cpu(), 1),
        (lambda x: x.double(), 0),
        (lambda x: torch.ones(2).to(x.device), 1),
        (lambda x: torch.ones(2).to(x.device, non_blocking=True), 1),
        (lambda x: torch.ones(2).pin_memory().to(x.device, non_blocking=True), 0),
        (lambda x: torch.tensor([1, 2], device="cuda"), 1),
        (lambda x: torch.zeros(2, device="cuda"), 0),
        (lambda x: x[torch.tensor([0])], 1),
        (lambda x: x[0].tolist(), 1),
        (lambda x: torch.linalg.eigvalsh(x[0, :3, :3]), 1),
    ],
)
def test_waits_are_counted(gpu, x, step, n):
    gpu.waits.clear()
    step(x)
    assert gpu.waits.total() == n


def test_a_wait_is_laid_to_the_line_of_ours_that_caused_it(gpu):
    pixels = torch.rand(2, 3, 4, 4).to("cuda")
    gpu.waits.clear()
    check_images(pixels)
    assert gpu.waits.total() > 0 and {file for file, _ in gpu.waits} == {"src/models/checks.py"}


def test_training_is_that_of_the_cpu_and_autocast_follows_the_lists_of_cuda():
    def train(device: str) -> tuple[list, dict]:
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten())
        model = nn.Sequential(body, nn.LayerNorm(144), nn.Linear(144, 3)).to(device)
        x, y = torch.rand(8, 3, 8, 8).to(device), torch.arange(8, device=device) % 3
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
        model = copy.deepcopy(model).requires_grad_(True)
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
        losses = []
        torch.manual_seed(1)
        for _ in range(3):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        return losses, torch.load(file, weights_only=True, map_location="cpu")

    losses, weights = train("cpu")
    with pretend_gpu():
        pretended, state = train("cuda")
        x, layer = torch.rand(4, 5, device="cuda"), nn.Linear(5, 5).to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            made = [f(layer(x)) for f in (F.gelu, F.relu, lambda y: y.softmax(1), lambda y: y.T @ y.softmax(1))]
        assert [y.dtype for y in made] == [torch.bfloat16] * 2 + [torch.float32, torch.bfloat16]
        assert layer(x).dtype == torch.float32
    assert pretended == pytest.approx(losses, rel=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
