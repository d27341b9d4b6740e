"""What answers a query that does not say who should, as far as the configuration decides it."""

from sentinel_gateway.settings.checks import DEMO
from sentinel_gateway.settings.model import ProviderSettings, Settings
from sentinel_gateway.settings.presets import PRESETS


def default_route(settings: Settings) -> str | None:
    """The public name that answers a query without provider and model, if there is one; the demo only where it is alone."""
    if settings.routing.default is not None:
        return settings.routing.default
    real = _real(settings)
    if not real:
        return DEMO if settings.demo else None
    return next((f"{name}/{model}" for name, provider in real.items() if (model := _own_model(provider))), None)


def default_models(settings: Settings) -> dict[str, str]:
    """The model that answers a query which names its provider only, by provider; some have none."""
    models = {name: model for name, provider in _real(settings).items() if (model := _own_model(provider))}
    if settings.demo:
        models[DEMO] = DEMO
    default = settings.routing.default or ""
    alias = settings.models.get(default)
    provider, slash, model = (alias.names[0] if alias else default).partition("/")
    return {**models, provider: model} if slash else models


def _real(settings: Settings) -> dict[str, ProviderSettings]:
    return {name: provider for name, provider in settings.providers.items() if provider.enabled and name != DEMO}


def _own_model(provider: ProviderSettings) -> str | None:
    """The only one that it has, or its preset's."""
    if provider.models:
        return provider.models[0] if len(provider.models) == 1 else None
    preset = PRESETS.get(provider.preset or "")
    return preset.default_model if preset else None
