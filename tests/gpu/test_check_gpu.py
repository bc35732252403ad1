"""The five-minute check of a GPU: whole on the pretend one, one clear word where there is none."""

import pytest
import torch
from pretend_gpu import pretend_gpu

from benchmarks import check_gpu


def test_it_runs_whole_and_finds_the_cpu_s_numbers(capsys):
    with pretend_gpu():
        check_gpu.main(["--n", "12"])
    said = capsys.readouterr().out
    assert said.startswith("Pretend, 16 GiB, CUDA") and "only" not in said
    assert all(name in said for name in (*check_gpu.CHECKS, "training, vit"))


def test_numbers_that_differ_are_named_and_it_fails(monkeypatch, capsys):
    def scaled(zoo, loader):
        table = check_gpu.predictions(zoo, loader)
        on_card = next(zoo["mlp", 0].parameters()).is_cuda
        return table.assign(logit_0=table["logit_0"] * (1.01 if on_card else 1))

    monkeypatch.setattr(check_gpu, "CHECKS", {"planted": (scaled, "logit_0")})
    monkeypatch.setattr(check_gpu, "MODELS", ("mlp",))
    with pretend_gpu(), pytest.raises(SystemExit) as ended:
        check_gpu.main(["--n", "12"])
    assert ended.value.code == 1
    assert "planted: only" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line_and_fails():
    with pytest.raises(SystemExit, match="device 'cuda' is not on this machine"):
        check_gpu.main([])
