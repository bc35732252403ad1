"""The check of a run's configuration, before anything is run: by `workflow.run`, and by the Snakefile once more."""

import reprlib

from src.data.load import check_dataset
from src.names import check_model, check_run, parse_painter
from src.parameters import check_parameters, default_parameters
from src.results import WORDS

RULES = WORDS | {"07_plots": "plots"}  # notebook -> rule
KEYS = ["run", "dataset", "notebooks", "shards"]
SHARED = ["models", "model_seeds", "seed", "device"]  # values for all notebooks that have these parameters
EXAMPLE = "write for example `run: mine` and `dataset: cifar10`"


def read_settings(config: object) -> dict[str, dict]:
    """notebook -> all of its parameters, of a configuration that may be run.

    Raises ValueError for a key, name or value that is none, FileNotFoundError for files that are not there.
    """
    if not isinstance(config, dict):
        raise ValueError(f"it is empty or no mapping; {EXAMPLE}")
    if missing := [key for key in KEYS[:2] if key not in config]:
        raise ValueError(f"it has no {' and no '.join(missing)}; {EXAMPLE}")
    if unknown := sorted(map(str, set(config) - {*KEYS, *SHARED, *RULES})):
        raise ValueError(f"it has no key {', '.join(unknown)}; choose from {', '.join([*KEYS, *SHARED, *RULES])}")
    check_run(config["run"])
    check_dataset(config["dataset"])
    chosen, shards = config.get("notebooks", list(RULES)), config.get("shards", 1)
    if not isinstance(chosen, list) or not chosen or any(name not in [*RULES] for name in chosen):
        raise ValueError(f"notebooks must be a list from {', '.join(RULES)}, not {reprlib.repr(chosen)}")
    if type(shards) is not int or not 1 <= shards <= 1000:
        raise ValueError(f"shards must be a whole number from 1 to 1000, not {reprlib.repr(shards)}")
    return {notebook: _settings(notebook, config) for notebook in RULES}


def given(notebook: str, config: dict) -> dict:
    """The configuration's values for a notebook's parameters, with those that say where it works."""
    known = default_parameters(f"{notebook}.ipynb")
    place = {"tables": f"runs/{config['run']}"} if RULES[notebook] == "plots" else {}
    place |= {name: config[name] for name in ("dataset", "run") if name in known and not place}
    shared = {name: config[name] for name in SHARED if name in config and name in known}
    return shared | (config.get(notebook) or {}) | place


def _settings(notebook: str, config: dict) -> dict:
    """All of a notebook's parameters; an unknown one is an error (papermill would only warn)."""
    own, defaults = config.get(notebook) or {}, default_parameters(f"{notebook}.ipynb")
    if not isinstance(own, dict):
        raise ValueError(f"{notebook} must hold values of its parameters, such as `seed: 0`, not {reprlib.repr(own)}")
    free = [name for name in defaults if name not in ("dataset", "run", "tables", "shard")]
    if unknown := sorted(map(str, set(own) - set(free))):
        raise ValueError(f"{notebook}.ipynb has no parameter {', '.join(unknown)} to set; it has {', '.join(free)}")
    settings = defaults | given(notebook, config)
    try:
        check_parameters(settings, defaults)
        models = [model for model, elsewhere in map(parse_painter, settings.get("painters", [])) if elsewhere]
        models += settings.get("judges", [])
        models += [f"{settings['backbone']}@{settings['backbone_weights']}"] if "backbone" in settings else []
        if RULES[notebook] != "plots":  # which has labels alone
            models += settings.get("models", []) + settings.get("others", [])
        for name in models:
            check_model(name)
        if twice := sorted(set(settings.get("others", [])) & set(settings.get("models", []))):
            raise ValueError(f"others names {', '.join(twice)}, which is among the models; leave it out of one")
        if RULES[notebook] == "cka" and len(settings["models"]) < 2 and notebook in config.get("notebooks", RULES):
            raise ValueError("it compares networks: name at least two models, or leave it out of `notebooks`")
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{notebook}: {error}") from None
    return settings
