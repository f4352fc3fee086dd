"""`%titan` and `%%titan`: options, configuration and verbs."""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Bool, Dict, Enum, Float, Int, TraitError, Unicode, Union, default, observe, validate

from titan_nb.budget import ACTIONS, Budget, grams_of, joules_of, money_of
from titan_nb.errors import SettingsError, TitanError
from titan_nb.ledger import DEFAULT_LIMIT
from titan_nb.notebook import verbs
from titan_nb.notebook.chat_options import CHAT, QUOTED, chat_arguments
from titan_nb.notebook.chat_options import check as check_chat
from titan_nb.notebook.memory_options import CELL, SESSION, joined_sizes, limit_bytes, memory_arguments
from titan_nb.notebook.options import amount, budget_of, unquoted, variable_name
from titan_nb.notebook.rewrite import unpacked
from titan_nb.settings import AUTOCASTS, PROVIDERS, RECLAIMS, CarbonConfig, Settings
from titan_nb.tracker import check

if TYPE_CHECKING:
    from titan_nb.notebook.session import Session

__all__ = ["ALLOWED", "VERBS", "TitanMagics"]

DISPLAYS = ("auto", "off", "simulated")
_CARBON = ("zone", "grams_per_kwh", "provider", "pue", "price_per_kwh", "currency", "equivalents")
VERBS = (
    "track",
    "on",
    "off",
    "report",
    "status",
    "reset",
    "chat",
    "remember",
    "recall",
    "dashboard",
    "budget",
    "compare",
    "audit",
    "who",
    "free",
    "spill",
    "dry-run",
)

_COUNTED = {"recall": "hit", "who": "row", "chat": "item"}
_LIMITS = ("max_energy", "max_carbon", "max_cost", "action")
_NAMES = ("text", "other", "more")
_CELL = frozenset({"output", "quiet", "chat", "column", "zone", "label", "dry_run", *_LIMITS, *CELL})
ALLOWED: dict[str, frozenset[str]] = {
    "track": _CELL,
    "dry-run": _CELL,
    "on": SESSION | {"remember"},
    "report": frozenset({"format", "output"}),
    **CHAT,
    "budget": frozenset({"off", *_LIMITS}),
    "compare": frozenset({"text", "other", "output"}),
    "audit": frozenset({"text", "zone", "region"}),
    "who": frozenset({"output", "k"}),
    "free": frozenset({*_NAMES, "out", "failed", "cache", "all"}),
    "spill": frozenset({*_NAMES, "disk", "back"}),
}


@magics_class
class TitanMagics(Magics):
    """What `%config TitanMagics` shows."""

    min_seconds = Float(
        1.0,
        min=0.0,
        help="With `%titan on`, show the line only under cells that took at least this many seconds.",
    ).tag(config=True)
    quiet = Bool(False, help="Measure every tracked cell, but show nothing under it.").tag(config=True)
    zone = Unicode(
        None,
        allow_none=True,
        help="Country whose grid is used for the carbon, such as 'DE'; titan_nb.zones() lists them all. "
        "There is no default: without a zone the carbon is unknown.",
    ).tag(config=True)
    grams_per_kwh = Float(
        None,
        allow_none=True,
        help="An explicit carbon intensity in g CO2e per kWh; it goes before the zone.",
    ).tag(config=True)
    provider = Unicode(
        None,
        allow_none=True,
        help=f"Who is asked over the network for the intensity of now: {', '.join(PROVIDERS)}. There is no "
        "default: nobody is asked.",
    ).tag(config=True)
    pue = Float(
        1.0, help="Power usage effectiveness of the data centre; carbon and cost are multiplied by it."
    ).tag(config=True)
    price_per_kwh = Union(
        [Float(), Dict()],
        default_value=None,
        allow_none=True,
        help="Price of a kilowatt-hour, or local times and prices: {'00:00': 0.20, '07:00': 0.35}.",
    ).tag(config=True)
    currency = Unicode(None, allow_none=True, help="What the price is in, such as 'EUR'.").tag(config=True)
    equivalents = Bool(False, help="Show grams also as kilometres of a car, with the source.").tag(
        config=True
    )
    carbon_from = Unicode(
        None,
        allow_none=True,
        help="Set all of the carbon settings at once: 'env' reads the variables TITAN_NB_ZONE, TITAN_NB_PUE "
        "and so on, any other text is the path of a TOML file. Read once, when it is set.",
    ).tag(config=True)
    exact_host_peak = Bool(
        True,
        help="Reset this process's own high-water mark (VmHWM) for an exact memory peak of each cell. It "
        "lowers what resource.getrusage().ru_maxrss says; turn it off to sample the peak instead.",
    ).tag(config=True)
    gpu_limit = Unicode(
        None, allow_none=True, help="How much this process may hold on each GPU in a tracked cell: '8GiB'."
    ).tag(config=True)
    ram_limit = Unicode(
        None,
        allow_none=True,
        help="How much memory of its own this process may hold in a tracked cell: '4GiB'.",
    ).tag(config=True)
    reclaim = Enum(
        RECLAIMS,
        RECLAIMS[0],
        help="When the memory that a failed cell's frames hold is given back: after an out-of-memory error "
        "('oom'), after every error and interrupt ('errors'), or 'never'.",
    ).tag(config=True)
    cache_threshold = Float(
        None,
        allow_none=True,
        help="Give the GPU allocator's unused blocks back between two cells once it holds more than this "
        "share of the GPU, such as 0.9. Off by default: the next cell has to ask for them again.",
    ).tag(config=True)
    spill_idle_cells = Int(
        None,
        allow_none=True,
        min=1,
        help="Once 80 % of a GPU is reserved, move the tensors of variables that so many cells in a row have "
        "not mentioned to the host's memory; each comes back when it is used. Off by default.",
    ).tag(config=True)
    forecast = Bool(
        False,
        help="Before a tracked cell that took at least min_seconds the last time, on inputs of the same "
        "shapes, say what peak of memory it had.",
    ).tag(config=True)
    history_limit = Int(
        DEFAULT_LIMIT, min=1, help="How many reports the session keeps; totals cover the older ones too."
    ).tag(config=True)
    display = Enum(
        DISPLAYS,
        help="'auto' shows the report under the cell; 'off' never shows anything; 'simulated' shows fixed, "
        "simulated figures, so that the outputs of a notebook can be compared in tests. The environment "
        "variable TITAN_NB_DISPLAY sets the default.",
    ).tag(config=True)

    # The settings of a cell without options, which `%titan on` asks for before every cell.
    _plain: Settings | None = None

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell)
        self._session = session
        # Most lines of a notebook are the same, and argparse is slow.
        self._parsed = functools.lru_cache(maxsize=64)(self._parse)
        if self.history_limit != DEFAULT_LIMIT:  # else another shell may have chosen one
            session.ledger.limit = self.history_limit

    @default("display")
    def _display_default(self) -> str:
        wanted = os.environ.get("TITAN_NB_DISPLAY", "")
        # A value that is not one of the choices must not keep the extension from loading.
        return wanted if wanted in DISPLAYS else DISPLAYS[0]

    @validate(*_CARBON)
    def _checked_carbon(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            # A provider knows zones that the tables do not have.
            check(CarbonConfig(**{"provider": self.provider, name: value}))
        except TitanError as error:
            raise TraitError(str(error)) from None
        return value

    @validate("carbon_from")
    def _read_carbon(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is None:
            return None
        try:
            carbon = CarbonConfig.from_env() if value == "env" else CarbonConfig.from_toml(value)
            check(carbon)
        except TitanError as error:
            raise TraitError(str(error)) from None
        # The provider first: it decides which zones there are.
        for name in sorted(_CARBON, key=lambda name: name != "provider"):
            setattr(self, name, carbon.to_dict()[name])
        return value

    @validate("gpu_limit", "ram_limit")
    def _checked_size(self, proposal: Any) -> str | None:
        value: str | None = proposal["value"]
        try:
            return None if limit_bytes(value) is None else value
        except TitanError as error:
            raise TraitError(f"{proposal['trait'].name}: {error}") from None

    @validate("cache_threshold")
    def _checked_threshold(self, proposal: Any) -> float | None:
        value: float | None = proposal["value"]
        if value is not None and not 0 < value <= 1:
            raise TraitError(f"cache_threshold is {value!r}: give a share of the GPU's memory, such as 0.9")
        return value

    @validate("min_seconds")
    def _checked_seconds(self, proposal: Any) -> float:
        value: float = proposal["value"]
        if math.isnan(value):
            raise TraitError("min_seconds is nan: give a number of seconds, 0 or more")
        return value

    @observe("quiet", "exact_host_peak", "gpu_limit", "ram_limit", "reclaim", *_CARBON)
    def _settings_changed(self, change: Any) -> None:
        self._plain = None

    @observe("history_limit")
    def _limit_changed(self, change: Any) -> None:
        if hasattr(self, "_session"):
            self._session.ledger.limit = change["new"]

    def settings(self, options: Any = None) -> Settings:
        """Return the settings of the next cell, from the traits and the ``options`` of its magic.

        Raises:
            SettingsError: If a value cannot be used.
        """
        if options is None and self._plain is not None:
            return self._plain
        zone = getattr(options, "zone", None)
        carbon = CarbonConfig(
            zone=zone or self.zone,
            # A zone given for this one cell is meant to be used, whatever is configured.
            grams_per_kwh=None if zone else self.grams_per_kwh,
            **{name: getattr(self, name) for name in _CARBON[2:]},
        )
        settings = Settings(
            label=getattr(options, "label", None),
            quiet=self.quiet or bool(getattr(options, "quiet", False)),
            chat=getattr(options, "chat", None),
            carbon=carbon,
            exact_host_peak=self.exact_host_peak,
            budget=self._cell_budget(options),
            gpu_limit_bytes=self._limit("gpu_limit", options),
            ram_limit_bytes=self._limit("ram_limit", options),
            autocast=getattr(options, "autocast", None) or AUTOCASTS[0],
            reclaim=getattr(options, "reclaim", None) or self.reclaim,
        )
        if options is None:
            self._plain = settings
        return settings

    def _limit(self, name: str, options: Any) -> int | None:
        return limit_bytes(getattr(options, name, None) or getattr(self, name))

    def _cell_budget(self, options: Any) -> Budget | None:
        budget = budget_of(options)
        if budget is not None and budget.action == "stop-before":
            raise SettingsError(
                "--action stop-before is for the session (%titan budget): this cell has begun; "
                "give --action warn or --action interrupt"
            )
        return budget

    @magic_arguments()
    @argument(
        "verb",
        nargs="?",
        choices=VERBS,
        help="track: measure this cell from here to its end. on, off: measure every cell. report: the "
        "session as a table. status: what can be measured here and how. reset: forget the session. chat: the "
        "chat memory (ls, show, forget, compact, save, open). remember, recall: store in it, search it. "
        "dashboard: the session as a widget. budget: what the session may spend. compare: two reports. "
        "audit: eco2ai as a second opinion. who: which name holds what memory. free: give memory back. "
        "spill: move idle tensors off the GPU. dry-run: what %%%%titan --dry-run becomes. After %%%%titan "
        "only options stand.",
    )
    @argument(
        "text",
        nargs="?",
        help="What to remember or recall: a text in quotes, or a variable. For compare: a report's number in "
        "the session, its label, or a variable that holds a report. For audit: start or stop. For free and "
        "spill: a variable.",
    )
    @argument("other", nargs="?", help="What compare sets beside the first one.")
    @argument("more", nargs="*", help="Further names, for free and spill.")
    @memory_arguments
    @argument(
        "-o",
        "--output",
        metavar="NAME",
        type=variable_name,
        help="Put the report, hits or table into NAME.",
    )
    @argument("-q", "--quiet", action="store_true", help="Measure, and show nothing.")
    @chat_arguments
    @argument(
        "--zone", metavar="ZONE", type=unquoted, help="Country of the grid, such as DE, for the carbon."
    )
    @argument("--label", metavar="TEXT", type=unquoted, help="A name for the cell in the report.")
    @argument("--format", choices=tuple(verbs.FORMATS), help="How report is shown: text, html, json or csv.")
    @argument(
        "--max-energy",
        metavar="ENERGY",
        type=amount(joules_of),
        help="A budget of energy for this cell, or with %%titan budget for the session: 500J, 5kJ, 2Wh.",
    )
    @argument(
        "--max-carbon", metavar="MASS", type=amount(grams_of), help="A budget of CO2e: 500mg, 10g, 1kg."
    )
    @argument(
        "--max-cost",
        metavar="MONEY",
        type=amount(money_of),
        help="A budget of money, in the currency of the price.",
    )
    @argument(
        "--action",
        choices=ACTIONS,
        help="When a budget is spent: warn with one line (the default), interrupt the cell as Ctrl-C does, "
        "or, for the session, stop-before the next cell.",
    )
    @argument("--off", action="store_true", help="Lift the session's budget.")
    @argument("--region", metavar="REGION", type=unquoted, help="Region of the zone, for audit.")
    @argument(
        "-k", type=int, metavar="K", help="How many hits recall shows (5), items chat show or rows who (20)."
    )
    @line_cell_magic
    def titan(self, line: str, cell: str | None = None) -> Any:
        """Measure what a cell costs: energy, carbon, memory and time.

        The cell runs exactly as it would have run. Put ``%%titan`` above it, or ``%titan track`` on its
        first line, or switch ``%titan on`` once for all cells.
        """
        if cell is not None:
            # Only a program that calls run_cell_magic itself comes here; a cell was rewritten long before.
            raise UsageError("%%titan is for cells; in a program use `with titan_nb.track():`")
        line, body = unpacked(line)
        options = self._parsed(line)
        if (options.dry_run or options.verb == "dry-run") and body is None:
            raise UsageError("put --dry-run on the line of %%titan, above the cell that is not to run")
        if options.verb == "track":
            return self._session.track(self._checked_settings(options), options.output, options.column)
        try:
            if body is not None:
                return verbs.dry_run(self._session, body, options)
            return verbs.VERBS[options.verb](self._session, options)
        except TitanError as error:
            raise UsageError(str(error)) from None

    def _parse(self, line: str) -> Any:
        try:
            options = parse_argstring(self.titan, joined_sizes(line))
        except ValueError as error:
            raise UsageError(f"{line.strip()}: {error}") from None  # an unbalanced quote
        if options.verb is None and not options.dry_run:
            raise UsageError(f"say what to do: %titan {' | '.join(VERBS)} (help: %titan?)")
        allowed = ALLOWED.get(options.verb or "dry-run", frozenset())
        for name, value in vars(options).items():
            if name != "verb" and name not in allowed and value not in (None, False, []):
                plain = {"text": repr(options.text), "other": repr(options.other), "k": "-k"}
                plain["more"] = " ".join(map(repr, options.more))
                shown = plain.get(name, f"--{name.replace('_', '-')}")
                meant = f"; did you mean %titan {value}?" if value in VERBS else ""
                if options.verb in QUOTED and name in _NAMES:
                    meant = "; put a text in quotes"
                raise UsageError(f"%titan {options.verb} takes no {shown}{meant} (help: %titan?)")
        if options.k is not None and options.k < 1:
            raise UsageError(f"-k is {options.k}: ask for at least one {_COUNTED[options.verb]}")
        check_chat(options)
        return options

    def _checked_settings(self, options: Any) -> Settings:
        try:
            return self.settings(options)
        except TitanError as error:
            raise UsageError(str(error)) from None
