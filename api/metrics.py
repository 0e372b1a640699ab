"""Measures in Prometheus' text format, with a bound on how many series one scrape may give."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headend.measures import Measure

MAX_SERIES = 2_000  # for each name; what is beyond is counted, not sent
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Measures(Collector):
    def __init__(self, measures: Callable[[], Iterable[Measure]]) -> None:
        self._measures = measures

    def collect(self) -> Iterator[Metric]:
        families: dict[str, tuple[tuple[str, ...], CounterMetricFamily | GaugeMetricFamily]] = {}
        dropped = 0
        for each in self._measures():
            names = tuple(sorted(each.labels))
            if each.name not in families:
                make = CounterMetricFamily if each.kind == "counter" else GaugeMetricFamily
                families[each.name] = names, make(f"metergate_{each.name}", each.help, labels=names)
            labels, family = families[each.name]
            if labels != names or len(family.samples) >= MAX_SERIES:
                dropped += 1
                continue
            family.add_metric([each.labels[name] for name in names], each.value)
        yield from (family for _, family in families.values())
        yield GaugeMetricFamily("metergate_metrics_dropped", "Series beyond the bound, left out", value=dropped)


def render(measures: Callable[[], Iterable[Measure]]) -> bytes:
    """Return one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Measures(measures))
    return generate_latest(registry)
