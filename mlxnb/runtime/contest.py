"""Puts the backends of `auto` in the order of their speed with a model: remembered, or measured where that is cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ..backends.base import Backend, LoadedModel
from ..backends.memory import memory_ran_out
from ..backends.probe import probe
from ..backends.rates import RateBook, Rates, by_speed, in_words
from ..backends.select import Candidates
from ..config import settings
from ..decision import Rejected
from ..errors import MlxnbError, ModelTooLargeError, OptionError
from ..errors import in_words as failure
from ..models import ModelSource, inspect
from ..request import Precision
from .let_go import let_go

# Bytes of weights up to which a model is loaded on a second backend for the sake of a measurement.
SMALL = 1_500_000_000

MEASURED, REMEMBERED = "chosen by a first measurement: ", "chosen by what was measured here: "

Find = Callable[[Backend, bool], ModelSource | None]
Load = Callable[[Backend, ModelSource], LoadedModel]


@dataclass(frozen=True, slots=True)
class Entrant:
    """A backend that takes a model, and where from. What is measured is remembered for `name_of`, where that is given:
    the model as it is here, which a backend that was named made its own `source` of.
    """

    backend: Backend
    source: ModelSource
    name_of: ModelSource | None = None

    @property
    def measured_as(self) -> ModelSource:
        """What its figures are remembered for."""
        return self.name_of or self.source


class Contest:
    """One model on the backends of a chain. The winner of a measurement stays in memory, to be taken from here.

    `find` gives a backend's source or None, and may download it where it is told so; `load` loads; `check` is called
    all the time, and ends a measurement by what it raises; `tell` hears what is under way.
    """

    def __init__(
        self,
        book: RateBook,
        precision: Precision,
        find: Find,
        load: Load,
        check: Callable[[], None],
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._book, self._precision = book, precision
        self._find, self._load, self._check, self._tell = find, load, check, tell
        self._loaded: dict[str, LoadedModel] = {}
        self._stopped: BaseException | None = None  # what `check` raised
        self._order: list[str] = []  # of those that were measured, the fastest first
        self.note = ""

    def in_order(self, chain: Candidates) -> Candidates:
        """The chain of `auto`, the fastest first. A chain that a person named stays as it is, and so does every one
        where measuring is off.

        Raises:
            OptionError: the setting `probe` holds what it does not take.
        """
        if chain.named or len(chain.backends) < 2 or settings().probe == "off":
            return chain
        # What a server has need not be downloaded to see whether it would be faster here.
        entrants = self._entrants(chain, download=False) or self._entrants(chain, download=True)
        if len(entrants) < 2:
            return chain
        measured = self._measure_first(entrants)
        rates = self._rates(entrants)
        # One that failed when it was measured comes after those that did not.
        failed = {
            each.backend.name: why for each in entrants if isinstance(why := self.known(each), Rejected) and rates
        }
        names = [backend.name for backend in chain.backends]
        order = [*by_speed([name for name in names if name not in failed], rates), *failed]
        self._order = [name for name in order if name in rates]
        if len(rates) > 1 and (measured or self._order != [name for name in names if name in rates]):
            self.note = (MEASURED if measured else REMEMBERED) + in_words(rates)
        self._leave([name for name in self._loaded if name != order[0]])
        passed_over = [failed[name] for name in names[: names.index(order[0])] if name in failed]
        backends = tuple(sorted(chain.backends, key=lambda backend: order.index(backend.name)))
        return replace(chain, backends=backends, passed_over=(*chain.passed_over, *passed_over))

    def _entrants(self, chain: Candidates, download: bool) -> list[Entrant]:
        found = [(backend, self._find(backend, download)) for backend in chain.backends]
        return [Entrant(backend, source) for backend, source in found if source is not None]

    def take(self, backend: Backend) -> LoadedModel | None:
        """The model that a measurement left in memory on a backend, if it did."""
        return self._loaded.pop(backend.name, None)

    def slower_than(self, name: str) -> list[str]:
        """The backends that come after one for what was measured."""
        return self._order[self._order.index(name) + 1 :] if name in self._order else []

    def close(self) -> None:
        """Give back what nobody took."""
        self._leave(list(self._loaded))

    def known(self, entrant: Entrant) -> Rates | Rejected | None:
        """What is remembered of a backend with its model."""
        return self._book.get(entrant.backend.name, entrant.measured_as, self._precision)

    def measure(
        self, entrant: Entrant, fastest: Rates | None = None, model: LoadedModel | None = None
    ) -> Rates | Rejected:
        """Measure a model, loaded first unless it is given, and remember what came of it: the rates with this run in
        them, or why there are none.
        """
        name = entrant.backend.name
        self._tell(f"measuring {name}")
        try:
            self._checked()
            if model is None:
                model = self._loaded[name] = self._load(entrant.backend, entrant.source)
            rates = probe(model, self._checked, fastest)
        except Exception as err:
            if err is self._stopped:
                raise
            return self._refused(entrant, err)
        finally:
            self._tell("")
        self._book.add(name, entrant.measured_as, self._precision, rates)
        return self.known(entrant) or rates

    def _refused(self, entrant: Entrant, err: Exception) -> Rejected:
        """Why there are no rates. What is for now only is not remembered: too little memory, a server that is away."""
        name = entrant.backend.name
        self._leave([name])
        let_go(err)
        if isinstance(err, MlxnbError):
            refused = Rejected(name, err.message.rstrip("."), err.remedy)
        else:
            refused = Rejected(name, f"the measurement failed: {failure(err)}")
        for_now = isinstance(err, ModelTooLargeError) or memory_ran_out(err.__cause__ or err)
        if not for_now and entrant.source.format != "served":
            self._book.refuse(refused, entrant.measured_as, self._precision)
        return refused

    def _checked(self) -> None:
        try:
            self._check()
        except BaseException as err:
            self._stopped = err
            raise

    def _measure_first(self, entrants: list[Entrant]) -> bool:
        """Measure, on first use, those that take the same folder as the first; whether there was anything to do."""
        first = entrants[0].source
        same = [each for each in entrants if each.source.path == first.path and each.source.format == first.format]
        unknown = [each for each in same if self.known(each) is None]
        if len(same) < 2 or not unknown or not _small(first):
            return False
        for each in unknown:
            known = self._rates(same).values()
            self.measure(each, min(known, key=lambda rates: rates.typical, default=None))
        return True

    def _rates(self, entrants: list[Entrant]) -> dict[str, Rates]:
        found = {each.backend.name: self.known(each) for each in entrants}
        return {name: rates for name, rates in found.items() if isinstance(rates, Rates)}

    def _leave(self, names: Iterable[str]) -> None:
        for model in [self._loaded.pop(name) for name in list(names) if name in self._loaded]:
            model.close()


def _small(source: ModelSource) -> bool:
    if source.format != "safetensors":
        return False
    try:
        return inspect(source.path).weight_bytes <= SMALL
    except MlxnbError:
        return False  # whoever loads it says what is wrong


def measuring_is_off() -> bool:
    """Whether nothing is to be measured on the way; also where the setting is wrong, which stops no answer."""
    try:
        return settings().probe == "off"
    except OptionError:
        return True
