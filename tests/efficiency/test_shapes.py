"""Two to two hundred classes, grey and 96 pixels through costs and times."""

import pytest
from shapes import SHAPES, images_of, zoo_of

from src import efficiency, plotting
from src.data.loaders import make_loader


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tables_and_figures_are_whole(shape):
    images, zoo = images_of(shape), {name: model for (name, _), model in zoo_of(shape).items()}
    (batch,) = make_loader(images.subset(4, seed=0), batch_size=4)
    costs = efficiency.costs(zoo, batch.pixels)
    assert (costs["macs"] > 0).all() and costs["accuracy"].isna().all()  # no card tells it
    options = dict(variants=["eager"], threads=[1], batch_sizes=[1, 4], n_repeats=6, n_warmup=1, seed=0)
    builders = {name: (lambda model=model: model) for name, model in zoo.items()}
    timings = efficiency.time_all(builders, batch.pixels, others={}, **options)
    timings = timings.assign(device="cpu", model_seed=0, dataset="pictures")
    assert set(timings["model"]) == set(zoo)
    blocks = efficiency.time_blocks(zoo["own patches"], batch.pixels).assign(
        model="own patches", condition="eager", model_seed=0, dataset="pictures"
    )
    plotting.efficiency.times(timings).canvas.draw()
    plotting.efficiency.blocks(blocks).canvas.draw()
