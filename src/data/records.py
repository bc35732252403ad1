"""Records of the data sets that go by name: where each comes from, what it must look like."""

from dataclasses import dataclass, field

MAX_SIDE = 4096  # pixels, of pictures that are cut to one size, and of what a network may ask for
# as in the 2023 report, for every model
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
# of the 60,000 training images, padded to 32x32
FASHION_MEAN, FASHION_STD = (0.2190, 0.2190, 0.2190), (0.3318, 0.3318, 0.3318)

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
    seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
    tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
    worm""".split()  # noqa: SIM905
)
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class DatasetRecord:
    """A named data set and the places of its files."""

    name: str
    hub_id: str
    columns: tuple[str, str]  # of images and labels, on the hub
    classes: tuple[str, ...]
    sizes: dict[str, int]  # images in each split
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int = 32  # pixels a side as shown to models, pad included
    pad: int = 0  # black border added on every side, in pixels
    sources: tuple[str, ...] = ("local", "hub")  # in this order
    betons: dict[str, str] = field(default_factory=dict)  # split -> file in data/<name>/ that `make betons` fetches
    checksums: dict[str, str] = field(default_factory=dict)  # split -> how `ImageSet.checksum` must begin

    @property
    def n_classes(self) -> int:
        return len(self.classes)


_RECORDS = (
    DatasetRecord(
        "cifar10", "uoft-cs/cifar10", ("img", "label"), CIFAR10_CLASSES,
        {"train": 50_000, "test": 10_000}, CIFAR_MEAN, CIFAR_STD,
        betons={"train": "train_32.beton", "test": "val_32.beton"},
        checksums={"train": "6229172e-", "test": "04eee365-"},  # of labels: copies differ in a few pixels
    ),
    DatasetRecord(
        "cifar100", "uoft-cs/cifar100", ("img", "fine_label"), CIFAR100_CLASSES,
        {"train": 50_000, "test": 10_000}, CIFAR_MEAN, CIFAR_STD,
        betons={"train": "train_32.beton", "test": "test_32.beton"},
        checksums={"train": "2c48cf70-4e457917601a66ae", "test": "f2fc4804-4cb8e5d9309da489"},
    ),
    DatasetRecord(  # train is a subset: see data/fashion_mnist/README.md
        "fashion_mnist", "zalando-datasets/fashion_mnist", ("image", "label"), FASHION_CLASSES,
        {"train": 10_000, "test": 10_000}, FASHION_MEAN, FASHION_STD, pad=2, sources=("embedded",),
        checksums={"train": "2c9fe85f-26b6cf4d80250350", "test": "6f0260c6-f8d50c372b3e2ce3"},
    ),
    DatasetRecord(
        "fashion_mnist_full", "zalando-datasets/fashion_mnist", ("image", "label"), FASHION_CLASSES,
        {"train": 60_000, "test": 10_000}, FASHION_MEAN, FASHION_STD, pad=2,
        checksums={"test": "6f0260c6-f8d50c372b3e2ce3"},
    ),
)  # fmt: skip
DATASETS: dict[str, DatasetRecord] = {record.name: record for record in _RECORDS}
WEIGHTS_OF = {"fashion_mnist_full": "fashion_mnist"}  # one test set, one set of weights
