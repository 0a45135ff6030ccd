"""PromQL, put together from what the dashboards select by.

`SERVICE("llm_ready")` is the series of a family of what is chosen on top of the dashboard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# As long as Grafana thinks that a rate needs, from the data source's scrape interval.
STEP: Final = "$__rate_interval"

# The other ranges that are asked for, and why they are not Grafana's to choose.
FIXED_RANGES: Final = {
    "$__range": "a table, or a legend, of what was in the time shown",
    "15m": "energy is read every two seconds, and little of it by a small card",
    "1h": "loads, lengths and burn rates of a service with little traffic need that long",
    "6h": "the second window of the burn rate",
    "24h": "a day is what its title says",
    "30d": "the window of the objective",
}


@dataclass(frozen=True)
class Source:
    """Label matchers, and selectors of series with them. `more` is further matchers."""

    matchers: str

    def __call__(self, family: str, more: str = "") -> str:
        return f"{family}{{{','.join(filter(None, (self.matchers, more)))}}}"

    def rate(self, family: str, more: str = "", over: str = STEP) -> str:
        return f"rate({self(family, more)}[{over}])"

    def increase(self, family: str, more: str = "", over: str = STEP) -> str:
        return f"increase({self(family, more)}[{over}])"

    def quantile(
        self, quantile: float, family: str, by: str = "", more: str = "", over: str = STEP
    ) -> str:
        """Of a histogram, which is named without `_bucket`."""
        labels = ", ".join(filter(None, ("le", by)))
        rates = self.rate(f"{family}_bucket", more, over)
        return f"histogram_quantile({quantile}, sum by ({labels}) ({rates}))"

    def mean(self, family: str, by: str = "", more: str = "") -> str:
        """Of a histogram or summary: its sum for each that it counted."""
        return share(
            total(self.rate(f"{family}_sum", more), by),
            total(self.rate(f"{family}_count", more), by),
        )

    def occurred(self, family: str, by: str, more: str = "") -> str:
        """Rates of those that there were any of in the time shown: nobody reads a legend of noughts."""
        shown = total(self.increase(family, more, "$__range"), by)
        return f"{total(self.rate(family, more), by)} and ({shown} > 0)"


SERVICE: Final = Source('job=~"$job",instance=~"$instance"')
# What clients asked for and is not there is counted, but is no model.
MODEL: Final = Source(SERVICE.matchers + ',model=~"$model",model!="_unknown"')
API: Final = Source(SERVICE.matchers + ',api=~"$api"')
ENDPOINT: Final = Source(API.matchers + ',endpoint=~"$endpoint"')
# What reads GPUs and hosts can be another target than the service.
MACHINE: Final = Source('instance=~"$gpu_instance"')
GPU: Final = Source(MACHINE.matchers + ',gpu=~"$gpu"')


def total(expr: str, by: str = "") -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def highest(expr: str, by: str = "") -> str:
    return f"max by ({by}) ({expr})" if by else f"max({expr})"


def lowest(expr: str, by: str = "") -> str:
    return f"min by ({by}) ({expr})" if by else f"min({expr})"


def share(part: str, whole: str) -> str:
    """Without a whole there is no share: nothing is divided by zero."""
    return f"{part} / ({whole} > 0)"


def share_or_none(part: str, whole: str) -> str:
    """As `share`, where no series of a part means that there was none of it."""
    return share(f"({part} or 0 * {whole})", whole)
