"""What settings must be together, and what is filled in: presets, keys among the headers, targets that exist.

Each check reads settings of which every value is right by itself, and tells its faults to a `Report`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from sentinel_gateway.settings.experiments import ExperimentSettings
from sentinel_gateway.settings.faults import MOST_FAULTS, suggest
from sentinel_gateway.settings.layers import Fault, Layer, Places
from sentinel_gateway.settings.model import Location, ProviderSettings, Server, Settings, Tenant
from sentinel_gateway.settings.network import is_loopback, is_own_address
from sentinel_gateway.settings.presets import AUTHORIZATION, DIALECTS, KEY_HEADERS, PRESETS, Dialect, Preset
from sentinel_gateway.settings.targets import ModelSettings
from sentinel_gateway.settings.values import MIN_ADMIN_KEY_DISTINCT, is_guessable

DEMO: Final = "demo"
"""The built-in provider, and its public model. Its name is taken."""


@dataclass(slots=True)
class Report:
    """Faults and notes so far. What depends on a value that is broken already is not reported again."""

    layer: Layer
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _hidden: Places = field(init=False)
    _broken: Places = field(init=False)

    def __post_init__(self) -> None:
        self._hidden = Places(place for place, origin in self.layer.origins.items() if origin.hidden)
        self._broken = Places(fault.location for fault in self.faults if fault.location)

    @property
    def is_full(self) -> bool:
        """Are there more faults already than are told of? Then nobody needs another one."""
        return len(self.faults) > MOST_FAULTS

    def fault(self, location: Location, sentence: str) -> None:
        if not self.is_full and not self.is_broken(location):
            self.add([Fault(self.layer.place(location), sentence, location)])

    def add(self, faults: Iterable[Fault]) -> None:
        """What was found elsewhere."""
        for fault in faults:
            self.faults.append(fault)
            if fault.location:
                self._broken.add(fault.location)

    def told(self, text: str, *locations: Location) -> str:
        """What came from these places, for a note; masked if any of it is not to be shown."""
        return "***" if any(map(self.is_hidden, locations)) else text

    def is_hidden(self, location: Location) -> bool:
        """Does anything stand here that is never to be shown?"""
        return self.layer.as_written(location) in self._hidden

    def is_broken(self, location: Location) -> bool:
        """Has something at, around or below this place been reported?"""
        return location in self._broken


def complete(settings: Settings, report: Report) -> Settings:
    """The settings with every provider resolved; what is wrong goes to the report."""
    providers = _providers(settings, report)
    _check_models(settings.models, providers, report)
    _check_name(settings.routing.default, ("routing", "default"), settings, providers, report)
    _check_name(settings.cache.semantic.judge, ("cache", "semantic", "judge"), settings, providers, report)
    for name, experiment in settings.experiments.items():
        _check_experiment(name, experiment, settings, providers, report)
    _check_groups(settings.tenants, report)
    _check_replicas(settings, report)
    _check_disk(settings, report)
    _check_alerts(settings, report)
    _check_reach(settings, report)
    return settings.model_copy(update={"providers": providers})


def _providers(settings: Settings, report: Report) -> dict[str, ProviderSettings]:
    resolved: dict[str, ProviderSettings] = {}
    for name, written in settings.providers.items():
        if report.is_full:
            break
        if name == DEMO:
            _check_demo(written, report)
            resolved[name] = written
        elif not written.enabled:
            resolved[name] = written
        elif name in PRESETS and _is_only_aside(name, report.layer):
            if not PRESETS[name].regional:
                names = " and ".join(_variables_of(name, report.layer))
                report.notes.append(f"{names} is set, but {PRESETS[name].switch} is not: {name} stays off")
        elif (provider := _resolve(name, settings.providers, report)) is not None:
            _check_address(name, provider, settings.server, report)
            resolved[name] = provider
    return resolved


def _check_demo(written: ProviderSettings, report: Report) -> None:
    if written.model_fields_set - {"enabled"}:
        report.fault(("providers", DEMO), "is built in and can only be switched off, by 'enabled: false': choose another name")


def _resolve(name: str, providers: Mapping[str, ProviderSettings], report: Report) -> ProviderSettings | None:
    """The provider with what its preset knows; None if something is missing."""
    written, here = providers[name], ("providers", name)
    preset_name = written.preset or (name if name in PRESETS else None)
    if preset_name is None:
        return _resolve_own(name, written, report)
    preset = PRESETS.get(preset_name)
    if preset is None:
        report.fault((*here, "preset"), f"'{preset_name}' is none of {', '.join(PRESETS)}{suggest(preset_name, PRESETS)}")
        return None
    # A provider under another name shares what is set for its preset's own name, such as GROQ_API_KEY.
    namesake = providers.get(preset.name, written)
    key = written.api_key or namesake.api_key
    written = _with_cloud(written, namesake)
    if preset.needs_key and not _text(key) and not written.signs:
        others = ", or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if preset.regional else ""
        report.fault((*here, "api_key"), f"{name} needs a key: set {preset.key_env}, or api_key{others}")
        return None
    if preset.regional and not written.region:
        report.fault((*here, "region"), f"{name} needs a region: set AWS_REGION, or region")
        return None
    dialect = written.dialect or namesake.dialect or preset.dialect
    if dialect not in {preset.dialect, *preset.also}:
        speaks = " or ".join((preset.dialect, *preset.also))
        report.fault((*here, "dialect"), f"the preset {preset.name} speaks {speaks}: leave the dialect out")
        return None
    base_url = written.base_url or namesake.base_url or preset.also.get(dialect) or preset.base_url
    if not base_url:
        report.fault(
            (*here, "base_url"), f"every customer of {preset.name} has their own: set {preset.base_url_env}, or base_url"
        )
        return None
    base_url = base_url.replace("{region}", written.region or "")
    return _filled(written, base_url, key, dialect=dialect, preset=preset)


def _with_cloud(written: ProviderSettings, namesake: ProviderSettings) -> ProviderSettings:
    """With the region and the credentials of its preset's own name, where it has none; never half of the one and the other."""
    update: dict[str, object] = {"region": written.region or namesake.region}
    if not (written.access_key_id or written.secret_access_key):
        update |= {name: getattr(namesake, name) for name in ("access_key_id", "secret_access_key", "session_token")}
    return written.model_copy(update=update)


def _resolve_own(name: str, written: ProviderSettings, report: Report) -> ProviderSettings | None:
    here = ("providers", name)
    if not written.base_url:
        example = "such as http://127.0.0.1:9001/v1"
        report.fault((*here, "base_url"), f"'{name}' is no preset, so it needs a base_url, {example}{suggest(name, PRESETS)}")
    elif written.dialect is None:
        report.fault((*here, "dialect"), f"'{name}' is no preset, so say what it speaks: dialect: {' or '.join(DIALECTS)}")
    elif written.signs and not written.region:
        report.fault((*here, "region"), f"{name} needs a region: its requests are signed for one")
    else:
        return _filled(written, written.base_url, written.api_key, dialect=written.dialect)
    return None


def _filled(
    written: ProviderSettings, base_url: str, key: SecretStr | None, *, dialect: Dialect, preset: Preset | None = None
) -> ProviderSettings:
    header = (preset.key_header if preset else None) or KEY_HEADERS[dialect]
    text = _text(key)
    auth = {header: SecretStr(f"Bearer {text}" if header == AUTHORIZATION else text)} if text else {}
    return written.model_copy(
        update={
            "preset": preset.name if preset else None,
            "dialect": dialect,
            "base_url": base_url,
            "api_key": key if text else None,
            "headers": auth | written.headers,
        }
    )


def _text(key: SecretStr | None) -> str:
    return key.get_secret_value() if key else ""


def _is_only_aside(name: str, layer: Layer) -> bool:
    """Do only variables speak of this provider that don't switch it on, such as an OPENAI_BASE_URL meant for clients?"""
    return all(origin.aside for origin in layer.below(("providers", name)))


def _variables_of(name: str, layer: Layer) -> list[str]:
    return sorted({origin.place.split()[-1] for origin in layer.below(("providers", name))})


def _check_address(name: str, provider: ProviderSettings, server: Server, report: Report) -> None:
    location = ("providers", name, "base_url")
    if is_own_address(provider.base_url, server.host, server.port):
        report.fault(location, f"{provider.base_url} is Sentinel's own address: a request would go round in circles")
    url = urlsplit(provider.base_url)
    if url.scheme == "http" and provider.api_key and not is_loopback(url.hostname or ""):
        whose = (name, provider.preset or name)
        address = report.told(provider.base_url, *(("providers", one, part) for one in whose for part in ("base_url", "region")))
        report.notes.append(f"the key of {name} travels unencrypted to {address}: use https if the network is not yours alone")


def _check_models(models: Mapping[str, ModelSettings], providers: Mapping[str, ProviderSettings], report: Report) -> None:
    enabled = _enabled(providers)
    for alias, model in models.items():
        if report.is_full:  # what is meant instead is looked for among all there are: of thousands, for a few only
            break
        provider, slash, _ = alias.partition("/")
        if alias == DEMO:
            report.fault(("models", alias), "is the model of the built-in demo provider: choose another name")
        elif slash and provider in enabled:
            report.fault(("models", alias), f"would hide what provider '{provider}' itself calls so: choose another name")
        for index, target in enumerate(model.names):
            location = ("models", alias, "targets", index)
            name, _, rest = target.partition("/")
            if not name or not rest:
                report.fault(location, f"got '{target}', but a target is provider/model, such as groq/llama-3.3-70b-versatile")
            elif name not in enabled and not report.is_broken(("providers", name)):
                report.fault(location, f"got '{target}', but {_why_off(name, providers, enabled)}")


def _check_name(
    name: str | None, location: Location, settings: Settings, providers: Mapping[str, ProviderSettings], report: Report
) -> None:
    """Is what is to answer here somebody that can?"""
    enabled = _enabled(providers)
    if name is None or name in settings.models or (name == DEMO and DEMO in enabled):
        return
    provider, _, model = name.partition("/")
    if not provider or not model:
        known = f" ({', '.join(settings.models)})" if settings.models else ""
        report.fault(location, f"got '{name}', but the {location[-1]} is provider/model, or a name under models{known}")
    elif provider not in enabled and not report.is_broken(("providers", provider)):
        report.fault(location, f"got '{name}', but {_why_off(provider, providers, enabled)}")


def _check_experiment(
    name: str, experiment: ExperimentSettings, settings: Settings, providers: Mapping[str, ProviderSettings], report: Report
) -> None:
    here = ("experiments", name)
    for place, sentence in experiment.faults():
        report.fault((*here, *place), sentence)
    for arm, written in experiment.arms.items():
        _check_name(written.model, (*here, "arms", arm, "model"), settings, providers, report)
        if written.weighs_words and not settings.cache.semantic.enabled:
            report.fault((*here, "arms", arm), "says how to answer in other words, which cache.semantic.enabled switches off")
    if experiment.enabled and not settings.ledger.enabled:
        report.notes.append(f"the experiment '{name}' is under way, but nobody will know what came of it: the ledger is off")
    if experiment.enabled and experiment.is_unlike:
        report.notes.append(
            f"arms of the experiment '{name}' have unlike weights: what those come to is told, but not judged, since a larger "
            "one fills its cache sooner. For few to take part lower its share"
        )


def _check_replicas(settings: Settings, report: Report) -> None:
    if settings.replicas == 1:
        return
    if settings.redis.address is None and not report.is_broken(("redis",)):
        report.fault(("replicas",), "more than one node need Redis, where they meet: set REDIS_URL, or leave replicas at 1")
    if settings.secret is None:
        report.fault(
            ("secret",),
            "more than one node need the same secret: make one with 'openssl rand -hex 32', set SENTINEL_SECRET on all",
        )
    if settings.database_url is not None or report.is_broken(("database_url",)):
        return
    if settings.keys.required:
        report.fault(
            ("keys", "required"),
            "is true, but keys that all nodes know need PostgreSQL: set SENTINEL_DATABASE_URL, or leave it out (then each data "
            "folder has its own), or leave replicas at 1",
        )
    elif settings.keys.required is None:
        where = "nodes on one machine share them if they share it (SENTINEL_DATA_DIR)"
        known = "SENTINEL_DATABASE_URL has all nodes know them"
        report.notes.append(
            f"client keys are kept in the data folder: {where}, and nodes on others have keys of their own; {known}"
        )


def _check_reach(settings: Settings, report: Report) -> None:
    host = settings.server.host
    if is_loopback(host):
        return
    if settings.keys.required is False:
        report.fault(("keys", "required"), f"is false, but others can reach {host}: leave it out, or bind 127.0.0.1")
    key = settings.admin_key
    if key is not None and is_guessable(key.get_secret_value(), distinct=MIN_ADMIN_KEY_DISTINCT):
        report.fault(
            ("admin_key",),
            f"was never drawn by chance, and others can reach {host}: make one with 'openssl rand -hex 32', or leave it out "
            "and one is made at the first start",
        )


def _check_disk(settings: Settings, report: Report) -> None:
    if settings.redis.address is not None and settings.cache.disk.model_fields_set:
        report.notes.append("cache.disk is set, but where Redis keeps the answers it has no effect")


def _check_alerts(settings: Settings, report: Report) -> None:
    alerts = settings.alerts
    for place, sentence in alerts.faults():
        report.fault(("alerts", *place), sentence)
    for place, name in alerts.unknown_channels():
        known = f": there are {', '.join(alerts.channels)}" if alerts.channels else ", and none is configured"
        near = suggest(name, list(alerts.channels)) or known
        report.fault(("alerts", *place), f"got '{name}', but there is no such channel under alerts.channels{near}")
    _check_reports(settings, report)
    if alerts.on and not settings.ledger.enabled:
        report.notes.append(
            "alerts know calls and requests from the ledger, which is off: rules about those never tell of anything"
        )


def _check_reports(settings: Settings, report: Report) -> None:
    channels = settings.alerts.channels
    for name, written in settings.reports.items():
        for place, sentence in written.faults():
            report.fault(("reports", name, *place), sentence)
        for number, channel in enumerate(written.channels):
            if channel not in channels:
                near = suggest(channel, list(channels))
                report.fault(("reports", name, "channels", number), f"got '{channel}', but alerts.channels has no such{near}")
    if settings.reports and not (channels and settings.alerts.on):
        report.fault(("reports",), "go to channels of alerts: name one under alerts.channels, and leave alerts.enabled on")
    if settings.reports and not settings.ledger.enabled:
        report.fault(("reports",), "are made of the ledger, which is off: set ledger.enabled to true")


def _check_groups(tenants: Mapping[str, Tenant], report: Report) -> None:
    members = Counter(tenant.cache_group for tenant in tenants.values())
    for name, tenant in tenants.items():
        group = tenant.cache_group
        if group is None:
            continue
        other = tenants.get(group)
        if other is not None and other.cache_group != group:
            report.fault(
                ("tenants", name, "cache_group"),
                f"'{group}' is a tenant that shares with nobody: choose another name for the group",
            )
        elif members[group] == 1:
            told = report.told(group, ("tenants", name, "cache_group"))
            report.notes.append(f"'{name}' is the only tenant of the cache group '{told}': it shares with nobody")


def _enabled(providers: Mapping[str, ProviderSettings]) -> set[str]:
    on = {name for name, provider in providers.items() if provider.enabled}
    return on if DEMO in providers else on | {DEMO}


def _why_off(name: str, providers: Mapping[str, ProviderSettings], enabled: set[str]) -> str:
    if name in providers:
        return f"provider '{name}' is switched off by 'enabled: false'"
    near = suggest(name, sorted(enabled))
    if name in PRESETS:
        return f"provider '{name}' is off: set {PRESETS[name].switch}"
    return f"there is no provider '{name}'" + (near or f": those on are {', '.join(sorted(enabled))}")
