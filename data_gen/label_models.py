"""What the labelling job opens before its first batch: kept rollouts, models, their one budget.

Answers of judges and programs are kept with the rollouts, so another output with the same folder
of rollouts finds them. The answers' files of the servers themselves lie beside the output (or in
`servers.requests`): a request that a killed job had in flight is found from there only.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_gen.label_config import LabelConfig
from data_gen.labelers.budgeted import BudgetedGenerator
from data_gen.models import ModelConfig, open_generator
from data_gen.prompting import load_strategy
from data_gen.rollout_store import RolloutStore, spent_with_other_counts
from prm.config import fingerprint
from prm.generation.budget import Budget, BudgetConfig
from prm.ledger import Ledger
from prm.prices import Price, price_of
from prm.protocols import ChatGenerator
from prm.store import Shard, discard, read_json


@dataclasses.dataclass(frozen=True)
class Opened:
    """The store of rollouts and the models; None where the settings need none."""

    store: RolloutStore
    completer: ChatGenerator | None
    judge: ChatGenerator | None

    @property
    def is_out(self) -> bool:
        """Whether the budget has ended: a text could not be asked for."""
        return any(
            isinstance(one, BudgetedGenerator) and one.is_out
            for one in (self.completer, self.judge)
        )

    @property
    def lost(self) -> Ledger:
        """What failed requests may have cost; a model in this process loses nothing."""
        models = {id(one): one for one in (self.completer, self.judge) if one is not None}
        return sum((getattr(one, "lost", Ledger()) for one in models.values()), Ledger())


@contextlib.contextmanager
def open_models(config: LabelConfig, shard: Shard) -> Iterator[Opened]:
    """Open what the method needs."""
    with contextlib.ExitStack() as held:
        folder = rollouts_folder(config)
        store = held.enter_context(contextlib.closing(_store(config, folder, shard)))
        completer = judge = None
        if config.needs_completer:
            work = open_generator(config.completer, config.output, shard)
            completer = held.enter_context(work)
        if config.needs_judge and (config.judge_model != config.completer or completer is None):
            # Another folder: two clients must not write the same answers' file.
            work = open_generator(config.judge_model, _beside(config.output, "-judge"), shard)
            judge = held.enter_context(work)
        elif config.needs_judge:
            judge = completer
        yield _within_budget(config, shard, Opened(store, completer, judge))


def rollouts_folder(config: LabelConfig) -> Path:
    """Where rollouts are kept: not in the output, which may be made again from them."""
    return Path(config.rollouts or _beside(config.output, "-rollouts"))


def reopen_where_budget_grew(config: LabelConfig, shard: Shard) -> bool:
    """Discard labels that an earlier budget has cut short, if this one allows more.

    They are made again from the rollouts that were paid for.
    """
    manifest = Path(config.output) / f"{shard.stem}.json"
    old = read_json(manifest) if manifest.exists() else {}
    ended = old.get("notes", {}).get("budget")
    if not ended or old.get("config_hash") != fingerprint(config):
        return False
    before, now = (_limits(BudgetConfig(**ended)), _limits(config.budget))
    if before == now or any(a > b for a, b in zip(before, now, strict=True)):
        return False
    discard(config.output, shard)
    return True


def _limits(budget: BudgetConfig) -> tuple[float, float]:
    return (budget.tokens or float("inf"), budget.dollars or float("inf"))


def _store(config: LabelConfig, folder: Path, shard: Shard) -> RolloutStore:
    """Its settings are all that decides what a rollout says, and whether it is right."""
    servers, strategy = config.completer.servers, load_strategy(config.strategy)
    sampling = dataclasses.asdict(config.sampling)
    settings: dict[str, Any] = {
        "completer": config.completer.model,
        "revision": servers.revision if servers else "",
        "extra": servers.extra if servers else {},
        "strategy": f"{strategy.id} {strategy.fingerprint}",
        "sampling": {key: value for key, value in sampling.items() if key != "n"},
        "answer_pattern": config.answer_pattern,
        "verifiers": config.verifiers,
    }
    return RolloutStore(folder, shard, settings=settings)


def _within_budget(config: LabelConfig, shard: Shard, opened: Opened) -> Opened:
    """The same models, behind the job's budget if there is one."""
    if config.budget == BudgetConfig():
        return opened
    spent = sum(opened.store.spent().values(), opened.lost)
    spent += spent_with_other_counts(opened.store.folder, shard)
    price = _dearest([config.completer, config.judge_model])
    budget = Budget(config.budget, price, spent, shard.count)

    def limited(model: ChatGenerator | None) -> ChatGenerator | None:
        return None if model is None else BudgetedGenerator(model, budget)

    completer = limited(opened.completer)
    is_same = opened.judge is opened.completer
    return Opened(opened.store, completer, completer if is_same else limited(opened.judge))


def _dearest(models: Sequence[ModelConfig]) -> Price:
    """What the budget reckons with: no endpoint costs more."""
    prices = [
        price_of(endpoint.price or model.servers.price, model.servers.prices)
        for model in models
        if model.servers is not None
        for endpoint in model.servers.endpoints
    ]
    return Price(
        prompt=max((price.prompt for price in prices), default=0.0),
        generated=max((price.generated for price in prices), default=0.0),
    )


def _beside(output: str, suffix: str) -> str:
    whole = Path(output)
    return str(whole.with_name(whole.name + suffix))
