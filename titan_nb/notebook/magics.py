"""`%titan` and `%%titan`: options, configuration and verbs."""

from __future__ import annotations

import functools
import keyword
import math
import os
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Bool, Enum, Float, Int, TraitError, Unicode, default, observe, validate

from titan_nb.errors import TitanError
from titan_nb.ledger import DEFAULT_LIMIT
from titan_nb.notebook import verbs
from titan_nb.settings import CarbonConfig, Settings
from titan_nb.tracker import check

if TYPE_CHECKING:
    from titan_nb.notebook.session import Session

__all__ = ["VERBS", "TitanMagics"]

DISPLAYS = ("auto", "off", "simulated")
VERBS = ("track", "on", "off", "report", "status", "reset", "chat", "recall", "dashboard")

_IPYTHONS_OWN = frozenset({"In", "Out", "get_ipython", "exit", "quit"})

ALLOWED: dict[str, frozenset[str]] = {
    "track": frozenset({"output", "quiet", "chat", "zone", "label"}),
    "report": frozenset({"format", "output"}),
    "recall": frozenset({"text", "chat", "k", "output"}),
}


def _unquoted(text: str) -> str:
    """Return ``text`` without the quotes that IPython's splitting leaves on."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _name(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text) or text in _IPYTHONS_OWN:
        raise ValueError(text)
    return text


_name.__name__ = "variable name"  # what argparse says in its error


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
    exact_host_peak = Bool(
        True,
        help="Reset this process's own high-water mark (VmHWM) for an exact memory peak of each cell. It "
        "lowers what resource.getrusage().ru_maxrss says; turn it off to sample the peak instead.",
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

    @validate("zone", "grams_per_kwh")
    def _checked_carbon(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            check(CarbonConfig(**{name: value}))
        except TitanError as error:
            raise TraitError(str(error)) from None
        return value

    @validate("min_seconds")
    def _checked_seconds(self, proposal: Any) -> float:
        value: float = proposal["value"]
        if math.isnan(value):
            raise TraitError("min_seconds is nan: give a number of seconds, 0 or more")
        return value

    @observe("quiet", "zone", "grams_per_kwh", "exact_host_peak")
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
        )
        settings = Settings(
            label=getattr(options, "label", None),
            quiet=self.quiet or bool(getattr(options, "quiet", False)),
            chat=getattr(options, "chat", None),
            carbon=carbon,
            exact_host_peak=self.exact_host_peak,
        )
        if options is None:
            self._plain = settings
        return settings

    @magic_arguments()
    @argument(
        "verb",
        nargs="?",
        choices=VERBS,
        help="track: measure this cell from here to its end. on, off: measure every cell. report: the "
        "session as a table. status: what can be measured here and how. reset: forget the session. chat: "
        "list the chat memory. recall: search it. dashboard: the session as a widget. After %%%%titan only "
        "options stand.",
    )
    @argument("text", nargs="?", help="What to recall: a text in quotes, or the name of a vector.")
    @argument("-o", "--output", metavar="NAME", type=_name, help="Put the report (or the hits) into NAME.")
    @argument("-q", "--quiet", action="store_true", help="Measure, and show nothing.")
    @argument(
        "--chat",
        metavar="ID",
        type=_unquoted,
        help="Store the cell's last value, embeddings or texts, in chat ID.",
    )
    @argument(
        "--zone", metavar="ZONE", type=_unquoted, help="Country of the grid, such as DE, for the carbon."
    )
    @argument("--label", metavar="TEXT", type=_unquoted, help="A name for the cell in the report.")
    @argument("--format", choices=tuple(verbs.FORMATS), help="How report is shown: text, html, json or csv.")
    @argument("-k", type=int, metavar="K", help="How many hits recall shows; 5 by default.")
    @line_cell_magic
    def titan(self, line: str, cell: str | None = None) -> Any:
        """Measure what a cell costs: energy, carbon, memory and time.

        The cell runs exactly as it would have run. Put ``%%titan`` above it, or ``%titan track`` on its
        first line, or switch ``%titan on`` once for all cells.
        """
        if cell is not None:
            # Only a program that calls run_cell_magic itself comes here; a cell was rewritten long before.
            raise UsageError("%%titan is for cells; in a program use `with titan_nb.track():`")
        options = self._parsed(line)
        if options.verb == "track":
            return self._session.track(self._checked_settings(options), options.output)
        try:
            return verbs.VERBS[options.verb](self._session, options)
        except TitanError as error:
            raise UsageError(str(error)) from None

    def _parse(self, line: str) -> Any:
        try:
            options = parse_argstring(self.titan, line)
        except ValueError as error:
            raise UsageError(f"{line.strip()}: {error}") from None  # an unbalanced quote
        if options.verb is None:
            raise UsageError(f"say what to do: %titan {' | '.join(VERBS)} (help: %titan?)")
        allowed = ALLOWED.get(options.verb, frozenset())
        for name, value in vars(options).items():
            if name != "verb" and name not in allowed and value not in (None, False):
                shown = {"text": repr(options.text), "k": "-k"}.get(name, f"--{name}")
                meant = f"; did you mean %titan {value}?" if value in VERBS else ""
                raise UsageError(f"%titan {options.verb} takes no {shown}{meant} (help: %titan?)")
        if options.k is not None and options.k < 1:
            raise UsageError(f"-k is {options.k}: ask for at least one hit")
        return options

    def _checked_settings(self, options: Any) -> Settings:
        try:
            return self.settings(options)
        except TitanError as error:
            raise UsageError(str(error)) from None
